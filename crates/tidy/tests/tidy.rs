//! One test per rule.

use clunk_tidy::exceptions::{self, Exception};
use clunk_tidy::{Offence, Tree, docs, files, rust, tree};

/// Fails with what no exception lets pass, and with exceptions that let nothing pass.
fn hold(offences: Vec<Offence>, exceptions: &[Exception]) {
    let mut wrong = Vec::new();
    let excused = |offence: &Offence| {
        exceptions.iter().find(|exception| exception.path == offence.path && exception.item == offence.item)
    };
    wrong.extend(offences.iter().filter(|offence| excused(offence).is_none()).map(Offence::to_string));
    for Exception { path, item, times, reason } in exceptions {
        let count = offences.iter().filter(|offence| offence.path == *path && offence.item == *item).count();
        if count > *times {
            wrong.push(format!("{path}: {count} times `{item}`, and only {times} excused: {reason}"));
        } else if count < *times && tree::other_root().is_none() {
            wrong.push(format!(
                "{path}: {count} times `{item}`; lower its exception from {times} (exceptions.rs)"
            ));
        }
    }
    assert!(wrong.is_empty(), "{} found\n  {}\n", wrong.len(), wrong.join("\n  "));
}

#[test]
fn functions_fit_on_a_screen() {
    hold(rust::long_functions(&Tree::load()), exceptions::LONG_FUNCTIONS);
}

#[test]
fn files_are_about_one_thing() {
    hold(files::long_files(&Tree::load()), exceptions::LONG_FILES);
}

#[test]
fn banned_calls_are_not_made() {
    hold(rust::banned_calls(&Tree::load()), exceptions::BANNED_CALLS);
}

#[test]
fn nothing_is_left_for_later() {
    hold(rust::left_behind(&Tree::load()), &[]);
}

#[test]
fn unsafe_code_is_in_named_modules_and_explained() {
    let tree = Tree::load();
    hold(rust::unsafe_code(&tree, exceptions::UNSAFE_MODULES), &[]);
    if tree::other_root().is_none() {
        for module in exceptions::UNSAFE_MODULES {
            let text = tree.text(module).unwrap_or_else(|| panic!("{module} is gone: take it off the list"));
            assert!(text.contains("unsafe"), "{module} has no unsafe code: take it off the list");
        }
    }
}

#[test]
fn no_large_files() {
    hold(files::large_files(&Tree::load()), &[]);
}

#[test]
fn lines_end_where_they_end() {
    hold(files::stray_blanks(&Tree::load()), &[]);
}

#[test]
fn nothing_belongs_to_one_machine() {
    hold(files::foreign_hosts(&Tree::load()), exceptions::FOREIGN_HOSTS);
}

#[test]
fn python_is_of_version_3_9() {
    match files::python_syntax(&Tree::load()) {
        Some(offences) => hold(offences, &[]),
        None => eprintln!("skipped: there is no python3"),
    }
}

#[test]
fn links_lead_somewhere() {
    hold(docs::broken_links(&Tree::load()), &[]);
}

#[test]
fn the_map_names_each_crate() {
    hold(docs::crates_without_mention(&Tree::load()), &[]);
}

#[test]
fn each_error_has_a_page() {
    hold(docs::error_pages(&Tree::load()), &[]);
}
