//! The results as JSON, as tables, and as a chart.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::row::Row;
use crate::setting::Setting;
use crate::{chart, table};

/// The markers of the tables in PERFORMANCE.md.
const BEGIN: &str = "<!-- The tables, written by `bench --save` -->\n";
const END: &str = "<!-- End of the tables -->\n";

/// The results so far.
pub struct Report {
    folder: PathBuf,
    /// The document that contains the tables.
    document: Option<PathBuf>,
    rows: Vec<Row>,
    failures: usize,
}

impl Report {
    /// With `save`, results are written to the repository, otherwise to the folder of the data sets.
    pub fn new(setting: &Setting, save: bool) -> Self {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
        let (folder, document) = match save {
            true => (
                Path::new(root).join("bench/results"),
                Some(Path::new(root).join("PERFORMANCE.md")),
            ),
            false => (setting.folder.join("results"), None),
        };
        Self {
            folder,
            document,
            rows: Vec::new(),
            failures: 0,
        }
    }

    /// Adds the rows of a workload, prints them, and writes all results so far. A workload that could not be
    /// measured is reported immediately and counted.
    pub fn add(&mut self, measured: Result<Vec<Row>>) -> Result<()> {
        match measured {
            Ok(rows) => {
                println!("{}", table::tables(&rows));
                self.rows.extend(rows);
                self.write()
            }
            Err(error) => {
                eprintln!("bench: {error:#}");
                self.failures += 1;
                Ok(())
            }
        }
    }

    /// Writes the results. Rows of other measurements are kept, so that a single workload can be measured again.
    fn write(&self) -> Result<()> {
        fs::create_dir_all(&self.folder)?;
        let json = self.folder.join("table.json");
        let before = fs::read_to_string(&json).unwrap_or_else(|_| "[]".to_owned());
        // Rows in an older format are discarded.
        let mut rows: Vec<Row> = serde_json::from_str(&before).unwrap_or_default();
        for row in &self.rows {
            match rows.iter_mut().find(|other| other.is_of(row)) {
                Some(other) => other.clone_from(row),
                None => rows.push(row.clone()),
            }
        }
        let tables = table::tables(&rows);
        fs::write(self.folder.join("table.md"), &tables)?;
        fs::write(json, serde_json::to_string_pretty(&rows)? + "\n")?;
        fs::write(self.folder.join("chart.svg"), chart::draw(&rows))?;
        if let Some(document) = &self.document {
            let text = fs::read_to_string(document)?;
            let text = replaced(&text, &tables)
                .with_context(|| format!("{} has no place for tables", document.display()))?;
            fs::write(document, text)?;
        }
        Ok(())
    }

    /// Prints where the results are.
    ///
    /// # Errors When a workload could not be measured.
    pub fn finish(&self) -> Result<()> {
        ensure!(
            self.failures == 0,
            "{} could not be measured",
            self.failures
        );
        eprintln!("written to {}", self.folder.display());
        Ok(())
    }
}

/// Replaces the tables in a document.
fn replaced(document: &str, tables: &str) -> Option<String> {
    let (before, rest) = document.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{tables}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::{BEGIN, END, replaced};

    #[test]
    fn the_tables_of_a_document_are_replaced_and_the_rest_stays() {
        let document = format!("before\n{BEGIN}old\n{END}after\n");
        let expected = format!("before\n{BEGIN}\nnew\n{END}after\n");
        assert_eq!(replaced(&document, "new"), Some(expected));
        assert_eq!(replaced("no tables", "new"), None);
    }
}
