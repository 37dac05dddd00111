//! Builds the recipe given as JSON with a stand-in runtime and prints the events and how long it took.
//! `cargo run -p clunk-image --example build -- STATE_DIR '{"base":{"kind":"debian_slim"}}'`

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::Instant;

fn main() -> std::process::ExitCode {
    if std::env::args().nth(1).as_deref() == Some("helper") {
        return clunk_runtime::spawner_main();
    }
    tokio::runtime::Runtime::new().expect("threads").block_on(run());
    std::process::ExitCode::SUCCESS
}

#[allow(clippy::print_stdout)]
async fn run() {
    tracing_subscriber::fmt().init();
    let mut args = std::env::args().skip(1);
    let state = args.next().expect("a state folder");
    let recipe = serde_json::from_str(&args.next().expect("a recipe")).expect("a recipe in JSON");
    let force = args.next().as_deref() == Some("force");
    let images = support::open(state.as_ref(), support::Files::new()).await;
    let (sender, mut receiver) = tokio::sync::mpsc::channel(64);
    let begun = Instant::now();
    let listen = async {
        while let Some(event) = receiver.recv().await {
            println!("{:6.2} {}", begun.elapsed().as_secs_f64(), serde_json::to_string(&event).unwrap());
        }
    };
    let (result, ()) = tokio::join!(images.build(recipe, force, sender), listen);
    match result {
        Ok(image) => println!("{:6.2} {image:#?}", begun.elapsed().as_secs_f64()),
        Err(error) => println!("{:6.2} {:#?}", begun.elapsed().as_secs_f64(), error.body()),
    }
}
