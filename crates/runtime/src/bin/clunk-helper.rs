//! The helper on its own, for this crate's tests and benches; the product's binary calls the same function.

fn main() -> std::process::ExitCode {
    clunk_runtime::spawner_main()
}
