//! What is printed, and where: results on stdout, everything else on stderr.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use serde::Serialize;

use crate::errors::CliError;

/// How results are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned text for people
    #[default]
    Table,
    /// JSON for scripts
    Json,
}

/// A style of text on a terminal.
#[derive(Clone, Copy, Debug)]
pub enum Style {
    /// A heading.
    Bold,
    /// Of lesser interest.
    Dim,
    /// Added, or fine.
    Green,
    /// Removed, or wrong.
    Red,
    /// Needs attention.
    Yellow,
}

/// The output of one command.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// How results are written.
    pub format: Format,
    stdout_colour: bool,
    stderr_colour: bool,
}

impl Output {
    /// Colours only on a terminal, and never where NO_COLOR is set to anything.
    pub fn new(format: Format) -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self {
            format,
            stdout_colour: wanted && io::stdout().is_terminal(),
            stderr_colour: wanted && io::stderr().is_terminal(),
        }
    }

    /// Whether results are JSON.
    pub fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Text for stdout.
    pub fn paint(&self, style: Style, text: &str) -> String {
        paint(self.stdout_colour, style, text)
    }

    /// Text for stderr.
    pub fn paint_err(&self, style: Style, text: &str) -> String {
        paint(self.stderr_colour, style, text)
    }

    /// Prints a result: `value` as JSON, or what `table` makes of it.
    pub fn result<T: Serialize>(
        &self,
        value: &T,
        table: impl FnOnce(&Self) -> String,
    ) -> Result<(), CliError> {
        let text = match self.format {
            Format::Json => serde_json::to_string_pretty(value)
                .map_err(|error| CliError::error(error, "report it"))?,
            Format::Table => table(self),
        };
        print(&mut io::stdout(), text.trim_end());
        Ok(())
    }

    /// Prints a part of a result that comes in parts.
    pub fn line(&self, text: &str) {
        print(&mut io::stdout(), text);
    }

    /// Prints something for a person on stderr.
    pub fn note(&self, text: &str) {
        print(&mut io::stderr(), text);
    }

    /// Prints an error on stderr, in the format of the results.
    pub fn error(&self, error: &CliError) {
        let text = match self.format {
            Format::Json => error.to_json().to_string(),
            Format::Table => {
                let text = error.to_string();
                match text.strip_prefix("error:") {
                    Some(rest) => format!("{}{rest}", self.paint_err(Style::Red, "error:")),
                    None => text,
                }
            }
        };
        self.note(&text);
    }
}

/// A reader that has gone away (`| head`) is not an error.
fn print(to: &mut impl Write, text: &str) {
    let _ = writeln!(to, "{text}");
}

fn paint(colour: bool, style: Style, text: &str) -> String {
    if !colour {
        return text.to_owned();
    }
    let code = match style {
        Style::Bold => 1,
        Style::Dim => 2,
        Style::Red => 31,
        Style::Green => 32,
        Style::Yellow => 33,
    };
    format!("\u{1b}[{code}m{text}\u{1b}[0m")
}

/// Rows of name and value, the values aligned.
#[derive(Clone, Debug, Default)]
pub struct Pairs(Vec<(String, String)>);

impl Pairs {
    /// No rows.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a row. A value of several lines is indented as one.
    pub fn row(&mut self, name: impl ToString, value: impl ToString) -> &mut Self {
        self.0.push((name.to_string(), value.to_string()));
        self
    }

    /// The rows as text, each line after `indent`.
    pub fn render(&self, indent: &str) -> String {
        let width = self
            .0
            .iter()
            .map(|(name, _)| visible(name))
            .max()
            .unwrap_or(0);
        let mut text = String::new();
        for (name, value) in &self.0 {
            let mut name = name.as_str();
            for line in value.lines().chain(value.is_empty().then_some("")) {
                let gap = " ".repeat(width - visible(name));
                text.push_str(format!("{indent}{name}{gap}  {line}").trim_end());
                text.push('\n');
                name = "";
            }
        }
        text
    }
}

/// Columns that a text takes on a terminal: colours take none.
fn visible(text: &str) -> usize {
    let mut columns = 0;
    let mut escape = false;
    for letter in text.chars() {
        match (escape, letter) {
            (false, '\u{1b}') => escape = true,
            (false, _) => columns += 1,
            (true, 'm') => escape = false,
            (true, _) => {}
        }
    }
    columns
}

/// A table with a heading, its columns aligned.
pub fn columns(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}", width = *width))
            .collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    let mut text = line(&mut head.iter().copied());
    for row in rows {
        text.push_str(&line(&mut row.iter().map(String::as_str)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_have_no_tail() {
        let rows = vec![
            vec!["a".to_owned(), "1".to_owned()],
            vec!["bbbb".to_owned(), String::new()],
        ];
        assert_eq!(columns(&["X", "N"], &rows), "X     N\na     1\nbbbb\n");
    }

    #[test]
    fn values_of_several_lines_stay_in_their_column() {
        let mut pairs = Pairs::new();
        pairs.row("one", "1\n2").row("three", "");
        assert_eq!(pairs.render(" "), " one    1\n        2\n three\n");
    }

    #[test]
    fn colours_take_no_room() {
        let mut pairs = Pairs::new();
        pairs
            .row(paint(true, Style::Green, "done"), "1")
            .row("longer", "2");
        let plain = pairs
            .render("")
            .replace("\u{1b}[32m", "")
            .replace("\u{1b}[0m", "");
        assert_eq!(plain, "done    1\nlonger  2\n");
    }
}
