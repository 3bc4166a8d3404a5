//! Writes the test vectors for other languages into `tests/vectors` of the workspace.
//!
//! `cargo run -p sluice-intent --example vectors`; the same bytes come out every time, and the suite
//! `vectors` fails when a file that is checked in differs from them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "../../tests/support/edge_cases.rs"]
mod edge_cases;
mod files;

fn main() -> std::io::Result<()> {
    let folder = files::folder();
    std::fs::create_dir_all(&folder)?;
    for (name, text) in files::all() {
        std::fs::write(folder.join(name), text)?;
        println!("{name}");
    }
    Ok(())
}
