//! `clunk image`

use std::process::ExitCode;

use clunk_core::api::{ImageDetail, ImageRecord, LayerRecord, PruneAnswer};
use clunk_core::error::ErrorCode;
use serde_json::json;

use crate::api::Client;
use crate::args::Image;
use crate::table::{number, text};
use crate::ui::{self, Output};
use crate::{home, table};

pub fn run(verb: Image, output: Output) -> anyhow::Result<ExitCode> {
    let client = Client::new(home::need_server()?);
    if let Image::Inspect { id } | Image::Remove { id } = &verb {
        check_id(id)?;
    }
    match verb {
        Image::List => list(&client, output)?,
        Image::Inspect { id } => inspect(&client, &id, output)?,
        Image::Remove { id } => {
            let removed: PruneAnswer = client.delete(&format!("/api/images/{id}"))?;
            output.say(format_args!("removed {id}, {} freed", ui::bytes(removed.freed_bytes)));
        }
        Image::Prune => prune(&client, output)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// An id goes into a path.
fn check_id(id: &str) -> anyhow::Result<()> {
    if !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Ok(());
    }
    Err(ui::error(ErrorCode::NotFound, format!("there is no image {id:?}"), "`clunk image list` shows them"))
}

fn list(client: &Client, output: Output) -> anyhow::Result<()> {
    let images: Vec<ImageRecord> = client.get("/api/images")?;
    if output.json {
        ui::print_json(&images);
        return Ok(());
    }
    if images.is_empty() {
        output.say("no images yet; the first `clunk run` builds one");
        return Ok(());
    }
    let row = |image: &ImageRecord| {
        vec![
            image.id.to_string(),
            image.python.clone().unwrap_or_else(|| "-".into()),
            ui::bytes(image.size_bytes),
            ui::ago(image.created_ms),
            if image.in_use { "yes" } else { "" }.into(),
            image.layers.to_string(),
            image.title.chars().take(60).collect(),
        ]
    };
    let rows: Vec<_> = images.iter().map(row).collect();
    let columns = [
        text("IMAGE"),
        text("PYTHON"),
        number("SIZE"),
        text("BUILT"),
        text("IN USE"),
        number("LAYERS"),
        text("WHAT"),
    ];
    table::print(&columns, &rows);
    Ok(())
}

fn inspect(client: &Client, id: &str, output: Output) -> anyhow::Result<()> {
    let image: ImageDetail = client.get(&format!("/api/images/{id}"))?;
    if output.json {
        ui::print_json(&image);
        return Ok(());
    }
    ui::print(format_args!(
        "{}  {}  built {}",
        image.id,
        ui::bytes(image.size_bytes),
        ui::ago(image.created_ms)
    ));
    ui::print(format_args!("python      {}", image.python.as_deref().unwrap_or("none")));
    ui::print(format_args!("workdir     {}", image.workdir.as_deref().unwrap_or("-")));
    ui::print(format_args!("entrypoint  {}", json!(image.entrypoint)));
    ui::print(format_args!("cmd         {}", json!(image.cmd)));
    for (name, value) in &image.env {
        ui::print(format_args!("env         {name}={value}"));
    }
    ui::print("");
    let row = |layer: &LayerRecord| {
        vec![ui::bytes(layer.size_bytes), if layer.shared { "yes" } else { "" }.into(), layer.title.clone()]
    };
    let rows: Vec<_> = image.layers.iter().map(row).collect();
    table::print(&[number("SIZE"), text("SHARED"), text("STEP")], &rows);
    Ok(())
}

fn prune(client: &Client, output: Output) -> anyhow::Result<()> {
    let pruned: PruneAnswer = client.post_for("/api/images/prune", &json!({}))?;
    if output.json {
        ui::print_json(&pruned);
    } else {
        ui::print(format_args!("{} freed", ui::bytes(pruned.freed_bytes)));
    }
    Ok(())
}
