//! The limits of a server: how much each allows, how much is in use, and how often it refused.

use prometheus::{IntCounter, IntGauge};

use super::{Builder, MetricsError};

/// A limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Connections, in all and from one address.
    Connections,
    /// Calls of authenticated callers.
    Calls,
    /// Calls of one principal.
    CallsOfPrincipal,
    /// Calls per second of one principal.
    CallRate,
    /// Calls without a token: SignIn.
    AnonymousCalls,
    /// Streams of health and reflection.
    PublicStreams,
    /// Streams of events, in all and of one principal.
    Watches,
    /// Calls whose token is looked up.
    TokenLookups,
    /// Bytes of responses that their clients have not read.
    UnreadBytes,
    /// Changes that wait for a group commit.
    QueuedChanges,
    /// Write transactions that run or wait for a connection.
    Transactions,
    /// Lists and searches.
    Pages,
    /// Passwords that are hashed or wait for it.
    PasswordHashes,
}

impl Limit {
    const ALL: [Self; 13] = [
        Self::Connections,
        Self::Calls,
        Self::CallsOfPrincipal,
        Self::CallRate,
        Self::AnonymousCalls,
        Self::PublicStreams,
        Self::Watches,
        Self::TokenLookups,
        Self::UnreadBytes,
        Self::QueuedChanges,
        Self::Transactions,
        Self::Pages,
        Self::PasswordHashes,
    ];

    /// The value of the label `limit`.
    fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Calls => "calls",
            Self::CallsOfPrincipal => "calls_of_principal",
            Self::CallRate => "call_rate",
            Self::AnonymousCalls => "anonymous_calls",
            Self::PublicStreams => "public_streams",
            Self::Watches => "watches",
            Self::TokenLookups => "token_lookups",
            Self::UnreadBytes => "unread_bytes",
            Self::QueuedChanges => "queued_changes",
            Self::Transactions => "transactions",
            Self::Pages => "pages",
            Self::PasswordHashes => "password_hashes",
        }
    }

    /// Whether there is one use of the limit, and not one for each principal.
    fn is_shared(self) -> bool {
        !matches!(self, Self::CallsOfPrincipal | Self::CallRate)
    }
}

/// The metrics of all limits.
#[derive(Debug)]
pub struct LimitMetrics(Vec<Metric>);

#[derive(Debug)]
struct Metric {
    refused: IntCounter,
    /// How much is in use, and how much is allowed. None for a limit of each principal.
    used: Option<(IntGauge, IntGauge)>,
}

impl LimitMetrics {
    pub(super) fn new(new: &Builder) -> Result<Self, MetricsError> {
        let refused = new.counters(
            "leadsmith_limit_refusals_total",
            "What was refused because a limit was reached, by limit",
            &["limit"],
        )?;
        let used = new.gauges(
            "leadsmith_limit_used",
            "How much of a limit is in use, by limit",
            &["limit"],
        )?;
        let allowed = new.gauges(
            "leadsmith_limit_allowed",
            "How much a limit allows, by limit",
            &["limit"],
        )?;
        let metric = |limit: Limit| {
            let labels = [limit.as_str()];
            let used = match limit.is_shared() {
                true => Some((
                    used.get_metric_with_label_values(&labels)?,
                    allowed.get_metric_with_label_values(&labels)?,
                )),
                false => None,
            };
            let refused = refused.get_metric_with_label_values(&labels)?;
            Ok(Metric { refused, used })
        };
        let metrics: Result<_, MetricsError> = Limit::ALL.into_iter().map(metric).collect();
        metrics.map(Self)
    }

    /// A limit refused something.
    pub fn refused(&self, limit: Limit) {
        if let Some(metric) = self.0.get(limit as usize) {
            metric.refused.inc();
        }
    }

    /// Sets how much of a limit is in use, and how much it allows.
    pub fn set(&self, limit: Limit, used: usize, allowed: usize) {
        if let Some((in_use, all)) = self
            .0
            .get(limit as usize)
            .and_then(|metric| metric.used.as_ref())
        {
            in_use.set(i64::try_from(used).unwrap_or(i64::MAX));
            all.set(i64::try_from(allowed).unwrap_or(i64::MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_found_by_its_number() {
        for (index, limit) in Limit::ALL.into_iter().enumerate() {
            assert_eq!(limit as usize, index);
        }
    }
}
