//! Statements of the database: how many, and how long they took.

use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, HistogramVec};

use super::{Builder, MetricsError, SECONDS};

/// What a statement does, by its first word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// It reads, or it reads what it writes (`WITH`).
    Select,
    Insert,
    Update,
    Delete,
    Other,
}

impl Operation {
    const ALL: [Self; 5] = [
        Self::Select,
        Self::Insert,
        Self::Update,
        Self::Delete,
        Self::Other,
    ];

    /// The operation of a statement.
    pub fn of(sql: &str) -> Self {
        let word = |word: &str| {
            let start = sql.as_bytes().get(..word.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(word.as_bytes()))
        };
        if word("SELECT") || word("WITH") {
            Self::Select
        } else if word("INSERT") {
            Self::Insert
        } else if word("UPDATE") {
            Self::Update
        } else if word("DELETE") {
            Self::Delete
        } else {
            Self::Other
        }
    }

    /// Its name in metrics and traces.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Select => "SELECT",
            Self::Insert => "INSERT",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Other => "other",
        }
    }
}

/// Measures statements.
#[derive(Debug)]
pub struct StatementMetrics([Histogram; Operation::ALL.len()]);

impl StatementMetrics {
    pub(super) fn new(new: &Builder) -> Result<Self, MetricsError> {
        let options = HistogramOpts::new(
            "leadsmith_database_statement_seconds",
            "How long statements took, without the wait for a connection, by operation",
        );
        let options = options.buckets(SECONDS.to_vec());
        let all = new.register(HistogramVec::new(options, &["operation"]))?;
        Ok(Self(Operation::ALL.map(|operation| {
            all.with_label_values(&[operation.as_str()])
        })))
    }

    /// Counts a statement that has ended.
    pub fn observe(&self, operation: Operation, elapsed: Duration) {
        self.0[operation as usize].observe(elapsed.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operation_is_the_first_word() {
        for operation in Operation::ALL {
            let sql = format!("{} …", operation.as_str().to_lowercase());
            assert_eq!(Operation::of(&sql), operation);
            assert_eq!(Operation::ALL[operation as usize], operation);
        }
        assert_eq!(Operation::of("WITH a AS (…) SELECT"), Operation::Select);
        assert_eq!(Operation::of("é"), Operation::Other);
        assert_eq!(Operation::of(""), Operation::Other);
    }
}
