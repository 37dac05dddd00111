//! The form itself: one labelled control for each field, its description and what is wrong with it beside it.

use maud::{Markup, html};
use serde_json::{Map, Number, Value, json};

use super::form::{Field, Item, Kind, Range, Text};
use super::submitted::{ADDRESS, PREFIX, Problems, Submitted};

/// The fields of a model, those that may wait folded away.
pub fn fields(fields: &[Field], shown: &Submitted, problems: &Problems) -> Markup {
    let (later, first): (Vec<_>, Vec<_>) = fields.iter().partition(|field| field.advanced);
    let plain = Submitted::of(fields, &Map::new());
    let open = later.iter().any(|field| {
        let words = |from: &Submitted| -> Vec<String> {
            let texts = from.texts.get(&field.name).into_iter().flatten();
            texts.filter(|text| !text.is_empty()).cloned().collect()
        };
        problems.contains_key(&field.name) || words(shown) != words(&plain)
    });
    html! {
        @for field in first { (labelled(field, shown, problems)) }
        @if !later.is_empty() {
            details.more open[open] {
                summary { "More settings" span.count { (later.len()) } }
                @for field in later { (labelled(field, shown, problems)) }
            }
        }
    }
}

struct Names {
    /// Of the control, and what its label points at.
    control: String,
    described: String,
    invalid: bool,
}

fn labelled(field: &Field, shown: &Submitted, problems: &Problems) -> Markup {
    let problem = problems.get(&field.name);
    let (hint_id, problem_id) = (format!("hint.{}", field.name), format!("problem.{}", field.name));
    let facts = facts(field);
    let described = format!("{hint_id} {problem_id}");
    let names = Names { control: format!("{PREFIX}{}", field.name), described, invalid: problem.is_some() };
    let head = html! {
        (field.title)
        @if field.required { span.need { "required" } }
        @if field.deprecated { span.old { "deprecated" } }
        code.name { (field.name) }
    };
    let body = html! {
        (control(field, shown, &names))
        p.hint id=(hint_id) {
            @if let Some(text) = &field.description { (text) @if !facts.is_empty() { " \u{b7} " } }
            (facts)
        }
        p.problem id=(problem_id) role="alert" { @if let Some(problem) = problem { (problem) } }
    };
    html! {
        @if grouped(&field.kind) {
            fieldset.field data-field=(field.name) aria-describedby=(names.described) { legend.label { (head) } (body) }
        } @else {
            div.field data-field=(field.name) {
                label.label for=(names.control) { (head) }
                (body)
            }
        }
    }
}

/// Several controls under one name.
fn grouped(kind: &Kind) -> bool {
    matches!(kind, Kind::List(_) | Kind::Choices(_))
}

fn control(field: &Field, shown: &Submitted, names: &Names) -> Markup {
    let value = shown.text(&field.name).unwrap_or_default();
    let Names { control: name, described, invalid } = names;
    let (described, required) = (described.as_str(), field.required);
    let invalid = invalid.then_some("true");
    match &field.kind {
        Kind::Text(text) => text_control(text, value, names, required),
        Kind::Number(range) => number_control(range, value, names, required),
        Kind::Secret => html! {
            input type="password" id=(name) name=(name) required[required] autocomplete="off" spellcheck="false"
                aria-describedby=(described) aria-invalid=[invalid];
        },
        Kind::Flag { nullable: false } => html! {
            input.switch type="checkbox" id=(name) name=(name) checked[!value.is_empty()] aria-describedby=(described);
        },
        Kind::Flag { nullable: true } => html! {
            select id=(name) name=(name) aria-describedby=(described) {
                option value="" { "not set" }
                option value="true" selected[value == "true"] { "yes" }
                option value="false" selected[value == "false"] { "no" }
            }
        },
        Kind::Choice(values) => html! {
            select id=(name) name=(name) required[required] aria-describedby=(described) aria-invalid=[invalid] {
                @if field.default.is_none() { option value="" { @if required { "choose one" } @else { "not set" } } }
                @for (place, choice) in values.iter().enumerate() {
                    option value=(place) selected[value == place.to_string()] { (word(choice)) }
                }
            }
        },
        Kind::Choices(values) => {
            let chosen = shown.texts.get(&field.name);
            html! {
                div.choices {
                    @for (place, choice) in values.iter().enumerate() {
                        @let checked = chosen.is_some_and(|texts| texts.contains(&place.to_string()));
                        label { input type="checkbox" name=(name) value=(place) checked[checked]; " " (word(choice)) }
                    }
                }
            }
        }
        Kind::File { accept, several } => file_control(
            accept.as_deref(),
            *several,
            shown.text(&format!("{}{ADDRESS}", field.name)),
            names,
            field,
        ),
        Kind::List(item) => list_control(*item, shown.texts.get(&field.name), names),
        Kind::Loose(_) => html! {
            input type="text" id=(name) name=(name) value=(value) required[required] aria-describedby=(described)
                aria-invalid=[invalid];
        },
        Kind::Json { .. } => html! {
            textarea.code id=(name) name=(name) rows="3" required[required] spellcheck="false"
                aria-describedby=(described) aria-invalid=[invalid] { "\n" (value) }
        },
    }
}

fn text_control(text: &Text, value: &str, names: &Names, required: bool) -> Markup {
    let Names { control: name, described, invalid } = names;
    let invalid = invalid.then_some("true");
    html! {
        @if text.lines || value.contains('\n') {
            // A browser drops the first end of line.
            textarea id=(name) name=(name) rows="2" required[required] minlength=[text.min_length]
                maxlength=[text.max_length] aria-describedby=(described) aria-invalid=[invalid] { "\n" (value) }
        } @else {
            input type="text" id=(name) name=(name) value=(value) required[required] minlength=[text.min_length]
                maxlength=[text.max_length] aria-describedby=(described) aria-invalid=[invalid];
        }
    }
}

/// The number counts; the slider beside it moves it, and waits for the script that ties them.
fn number_control(range: &Range, value: &str, names: &Names, required: bool) -> Markup {
    let Names { control: name, described, invalid } = names;
    let invalid = invalid.then_some("true");
    let step = if range.integer { "1" } else { "any" };
    html! {
        div.number {
            @if let Some((low, high)) = range.ends() {
                @let at = if value.is_empty() { low.to_string() } else { value.to_owned() };
                input type="range" disabled min=(low) max=(high) step=(range.step()) value=(at) tabindex="-1"
                    aria-hidden="true" data-slider=(name);
            }
            input type="number" id=(name) name=(name) value=(value) step=(step) min=[range.minimum.as_ref()]
                max=[range.maximum.as_ref()] required[required] inputmode=(if range.integer { "numeric" } else { "decimal" })
                aria-describedby=(described) aria-invalid=[invalid];
        }
    }
}

fn file_control(
    accept: Option<&str>,
    several: bool,
    address: Option<&str>,
    names: &Names,
    field: &Field,
) -> Markup {
    let Names { control: name, described, invalid } = names;
    let invalid = invalid.then_some("true");
    let address_name = format!("{name}{ADDRESS}");
    let label = format!("{}: address instead of a file", field.title);
    html! {
        div.file {
            input type="file" id=(name) name=(name) accept=[accept] multiple[several] aria-describedby=(described)
                aria-invalid=[invalid];
            div.preview hidden {}
            @if several {
                textarea.address name=(address_name) rows="1" aria-label=(label)
                    placeholder="or addresses, one on each line" { "\n" (address.unwrap_or_default()) }
            } @else {
                input.address type="text" inputmode="url" name=(address_name) value=(address.unwrap_or_default())
                    aria-label=(label) placeholder="or an address: https://…";
            }
        }
    }
}

/// One row for each item and one to go on with; the script gives rows and takes them.
fn list_control(item: Item, texts: Option<&Vec<String>>, names: &Names) -> Markup {
    let name = &names.control;
    let invalid = names.invalid.then_some("true");
    let blank = String::new();
    let filled = texts.into_iter().flatten().filter(|text| !text.trim().is_empty());
    let rows = filled.chain([&blank]);
    let (kind, step) = match item {
        Item::Integer => ("number", Some("1")),
        Item::Number => ("number", Some("any")),
        Item::Text | Item::Flag => ("text", None),
    };
    html! {
        ol.rows data-rows {
            @for (place, text) in rows.enumerate() {
                li {
                    input type=(kind) step=[step] name=(name) value=(text) aria-label=(format!("item {}", place + 1))
                        aria-invalid=[invalid];
                    button.plain type="button" data-remove hidden aria-label="remove this item" { "\u{d7}" }
                }
            }
        }
        button.plain type="submit" name="again" value=(name) formnovalidate data-add { "Add an item" }
    }
}

/// A choice as a word.
fn word(value: &Value) -> String {
    match value {
        Value::String(text) if text.is_empty() => "(empty)".into(),
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}

/// `20.0` as people write it.
fn short(number: &Number) -> String {
    number.to_string().trim_end_matches(".0").to_owned()
}

/// What a person should know of the values that fit.
fn facts(field: &Field) -> String {
    let mut facts = Vec::new();
    match &field.kind {
        Kind::Number(Range { minimum, maximum, integer }) => match (minimum, maximum) {
            (Some(low), Some(high)) => facts.push(format!("{} to {}", short(low), short(high))),
            (Some(low), None) => facts.push(format!("at least {}", short(low))),
            (None, Some(high)) => facts.push(format!("at most {}", short(high))),
            (None, None) if *integer => facts.push("a whole number".into()),
            (None, None) => {}
        },
        Kind::Text(text) => {
            match (text.min_length, text.max_length) {
                (Some(low), Some(high)) => facts.push(format!("{low} to {high} characters")),
                (Some(low), None) => facts.push(format!("at least {low} characters")),
                (None, Some(high)) => facts.push(format!("at most {high} characters")),
                (None, None) => {}
            }
            facts.extend(text.pattern.as_ref().map(|pattern| format!("must match {pattern}")));
        }
        Kind::File { accept: Some(accept), .. } => facts.push(accept.clone()),
        Kind::Json { shape } => {
            facts.push(format!("JSON: {} {shape}", if *shape == "object" { "an" } else { "a" }))
        }
        Kind::List(Item::Integer) => facts.push("whole numbers".into()),
        Kind::List(Item::Flag) => facts.push("true or false".into()),
        _ => {}
    }
    let shown = field.default.as_ref().filter(|_| !matches!(field.kind, Kind::Flag { .. } | Kind::Secret));
    let shown = shown.filter(|value| **value != json!([]) && **value != json!(""));
    let default = shown.map(word).filter(|text| text.len() <= MAX_SHOWN_DEFAULT && !text.contains('\n'));
    facts.extend(default.map(|text| format!("default {text}")));
    facts.join(" \u{b7} ")
}

/// Bytes of a default that stands in the hint; a longer one stands in the field alone.
const MAX_SHOWN_DEFAULT: usize = 40;
