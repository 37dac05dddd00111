//! Shows a build while it happens.

use std::io::{BufRead, BufReader, IsTerminal};

use clunk_core::error::ErrorBody;
use clunk_core::id::ImageId;
use clunk_core::recipe::Recipe;
use serde_json::{Value, json};

use crate::api::Client;
use crate::ui::{self, Output};

/// Builds an image and shows the steps that are not built yet.
pub fn build(client: &Client, recipe: &Recipe, output: Output) -> anyhow::Result<ImageId> {
    let answer = client.post("/api/images", &json!({"recipe": recipe}))?;
    let live = std::io::stderr().is_terminal() && !output.quiet;
    for line in BufReader::new(answer.into_body().into_reader()).lines() {
        let event: Value = serde_json::from_str(&line?)?;
        let text = |name: &str| event[name].as_str().unwrap_or_default();
        match text("type") {
            "step" if event["cached"] == false => {
                output.say(format_args!(
                    "clunk: step {}/{}: {}",
                    event["index"],
                    event["total"],
                    text("title")
                ));
            }
            "log" if live => ui::warn(format_args!("  {}", ui::paint("2", text("text").trim_end()))),
            "done" => return Ok(text("image").parse()?),
            "error" => return Err(failed(&event, live)),
            _ => {}
        }
    }
    anyhow::bail!("the server ended the build without a word; `clunk logs --server` may tell more")
}

fn failed(event: &Value, live: bool) -> anyhow::Error {
    if !live {
        for line in event["tail"].as_array().into_iter().flatten() {
            ui::warn(format_args!("  {}", line.as_str().unwrap_or_default()));
        }
    }
    match serde_json::from_value::<ErrorBody>(event["error"].clone()) {
        Ok(error) => error.into(),
        Err(_) => anyhow::anyhow!("the build failed"),
    }
}
