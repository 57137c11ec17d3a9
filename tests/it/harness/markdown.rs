//! The Markdown files of the repository.

use std::fs;
use std::path::{Path, PathBuf};

/// The folders that contain documents, from the root of the repository.
const FOLDERS: [&str; 5] = [".", "docs/src", "docs/src/reference", "fuzz", "migrations"];

pub fn in_root(path: &str) -> PathBuf {
    Path::new(crate::ROOT).join(path)
}

/// The text of a file, by its path from the root.
pub fn read(path: &str) -> String {
    fs::read_to_string(in_root(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The Markdown files of all folders, sorted, by their paths from the root.
pub fn documents() -> Vec<String> {
    let mut found: Vec<String> = FOLDERS.into_iter().flat_map(markdown).collect();
    found.sort();
    assert!(found.len() > 30, "{found:?}");
    found
}

/// The Markdown files of a folder, sorted, by their paths from the root.
pub fn markdown(folder: &str) -> Vec<String> {
    let files = fs::read_dir(in_root(folder)).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut found: Vec<String> = names
        .filter(|name| name.ends_with(".md"))
        .map(|name| match folder {
            "." => name,
            _ => format!("{folder}/{name}"),
        })
        .collect();
    found.sort();
    found
}

/// A fenced block of a document.
pub struct Block {
    /// The number of its first line in the document, from 1.
    pub line: usize,
    /// The word after the fence; may be empty.
    pub language: String,
    pub lines: Vec<String>,
    /// The reason of a comment `<!-- not run: REASON -->` on the line above the block.
    pub not_run: Option<String>,
}

/// The fenced blocks of a document, in their order.
pub fn blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut is_inside = false;
    let mut above = "";
    for (number, line) in (1..).zip(text.lines()) {
        let fence = line.trim_start().strip_prefix("```");
        match (fence, is_inside) {
            (Some(language), false) => {
                let comment = above.trim().strip_prefix("<!-- not run: ");
                let reason = comment.and_then(|rest| rest.strip_suffix(" -->"));
                blocks.push(Block {
                    line: number + 1,
                    language: language.to_owned(),
                    lines: Vec::new(),
                    not_run: reason.map(str::to_owned),
                });
                is_inside = true;
            }
            (Some(_), true) => is_inside = false,
            (None, true) => blocks.last_mut().unwrap().lines.push(line.to_owned()),
            (None, false) => {}
        }
        above = line;
    }
    assert!(!is_inside, "a block has no end");
    blocks
}

/// The cells of each row of the table with this header.
pub fn table(text: &str, header: &str) -> Vec<Vec<String>> {
    let lines: Vec<_> = text.lines().collect();
    let start = lines.iter().position(|line| *line == header);
    let start = start.unwrap_or_else(|| panic!("there is no table {header}"));
    let mut rows = Vec::new();
    for line in lines.iter().skip(start + 2) {
        if !line.starts_with('|') {
            break;
        }
        let cells = line.trim_matches('|').split('|');
        rows.push(cells.map(|cell| cell.trim().to_owned()).collect());
    }
    assert!(!rows.is_empty(), "{header}");
    rows
}
