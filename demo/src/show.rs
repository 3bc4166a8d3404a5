//! What a person reads.

use std::{
    io::{IsTerminal, stdout},
    sync::atomic::{AtomicU32, Ordering},
};

static STEP: AtomicU32 = AtomicU32::new(1);

/// A new step, numbered.
pub fn step(title: &str) {
    let number = STEP.fetch_add(1, Ordering::Relaxed);
    println!("\n{}", bold(&format!("{number}. {title}")));
}

/// A named value.
pub fn fact(name: &str, value: &str) {
    println!("   {name:<12} {value}");
}

/// A sentence.
pub fn say(text: &str) {
    println!("   {text}");
}

/// A command that is run, as a person would type it.
pub fn command(line: &str) {
    println!("   {}", dim(&format!("$ {line}")));
}

/// What a command printed.
pub fn output(text: &str) {
    for line in text.trim_end().lines() {
        println!("     {line}");
    }
}

fn bold(text: &str) -> String {
    if stdout().is_terminal() {
        format!("\x1b[1m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

fn dim(text: &str) -> String {
    if stdout().is_terminal() {
        format!("\x1b[2m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}
