//! The limits of password attempts: by operator, by username and by address. They stop guesses and do
//! not lock out other callers.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration as StdDuration;

use chrono::Duration;
use leadsmith::app::Running;
use leadsmith::auth::attempts::{self, Bucket};
use leadsmith::core::role::Role;
use leadsmith_proto::Lead;
use tokio::task::JoinSet;
use tonic_types::StatusExt;

use super::{
    OTHER, WRONG, at, change_email, change_password, is_locked_out, replica,
    wrong_current_password, wrong_sign_in,
};
use crate::harness::{Caller, Harness, PASSWORD, is_let_in, reason, sign_in, whole};
use crate::on_both;

on_both! {
    async fn after_5_wrong_current_passwords_the_right_one_is_refused(h: Harness) {
        let ada = h.operator("ada", Role::Sales).await;
        let lead = ada.create_lead("Lovelace").await;
        for _ in 0..4 {
            wrong_current_password(&ada, &lead).await;
        }
        // A wrong password counts in every call that requires it.
        let status = change_password(&ada, WRONG, OTHER).await.unwrap_err();
        assert_eq!(reason(&status), "CURRENT_PASSWORD_INVALID");

        is_locked_out(change_email(&ada, &lead.id, "new", PASSWORD).await);
        is_locked_out(change_email(&ada, &lead.id, "new", WRONG).await);
        is_locked_out(change_password(&ada, PASSWORD, OTHER).await);
        assert_eq!(ada.get(&lead.id).await, lead, "nothing of a refused update is applied");

        let change = Lead { id: lead.id.clone(), phone: "1".into(), ..Lead::default() };
        ada.update(change, &["phone"]).await.unwrap();
        change_email(&h.sales, &lead.id, "others", PASSWORD).await.unwrap();
    }

    async fn a_lock_ends_with_its_window(h: Harness) {
        let ada = h.operator("ada", Role::Sales).await;
        let lead = ada.create_lead("Lovelace").await;
        for _ in 0..5 {
            wrong_current_password(&ada, &lead).await;
        }
        h.clock.advance(Duration::minutes(14));
        let status = is_locked_out(change_email(&ada, &lead.id, "new", PASSWORD).await);
        let details = status.get_error_details();
        let wait = details.retry_info().and_then(|info| info.retry_delay).unwrap();
        assert!(wait <= StdDuration::from_secs(60), "{wait:?}");
        h.clock.advance(Duration::minutes(1));
        let lead = change_email(&ada, &lead.id, "new", PASSWORD).await.unwrap();
        assert_eq!(lead.email, "new@example.com");
        for _ in 0..5 {
            wrong_current_password(&ada, &lead).await;
        }
        is_locked_out(change_email(&ada, &lead.id, "newer", PASSWORD).await);
    }

    async fn an_administrator_unlocks(h: Harness) {
        let ada = h.operator("ada", Role::Sales).await;
        let lead = ada.create_lead("Lovelace").await;
        for _ in 0..5 {
            wrong_current_password(&ada, &lead).await;
            wrong_sign_in(&h, "ada").await;
        }
        is_locked_out(change_email(&ada, &lead.id, "new", PASSWORD).await);
        is_locked_out(sign_in(h.channel(), "ada", PASSWORD).await);
        h.console().unlock_operator("Ada").await.unwrap();
        change_email(&ada, &lead.id, "new", PASSWORD).await.unwrap();
        sign_in(h.channel(), "ada", PASSWORD).await.unwrap();
    }

    async fn right_passwords_do_not_count(h: Harness) {
        let ada = h.operator("ada", Role::Sales).await;
        let lead = ada.create_lead("Lovelace").await;
        for n in 0..20 {
            change_email(&ada, &lead.id, &format!("right{n}"), PASSWORD).await.unwrap();
            sign_in(h.channel(), "ada", PASSWORD).await.unwrap();
        }
        for _ in 0..4 {
            wrong_current_password(&ada, &lead).await;
            wrong_sign_in(&h, "ada").await;
        }
        for n in 0..3 {
            change_email(&ada, &lead.id, &format!("again{n}"), PASSWORD).await.unwrap();
            sign_in(h.channel(), "ada", PASSWORD).await.unwrap();
        }
        // The correct passwords have not reset the count of wrong ones either.
        wrong_current_password(&ada, &lead).await;
        wrong_sign_in(&h, "ada").await;
        is_locked_out(change_email(&ada, &lead.id, "new", PASSWORD).await);
        is_locked_out(sign_in(h.channel(), "ada", PASSWORD).await);
    }

    async fn a_flood_of_guesses_over_two_servers_gets_5_verifications(h: Harness) {
        let second = replica(&h).await;
        let ada = h.operator("ada", Role::Sales).await;
        let lead = ada.create_lead("Lovelace").await;
        let outcomes = flood(&h, &second, &ada, &lead, 200, None).await;
        assert_eq!(outcomes.right, 0);
        assert!((1..=5).contains(&outcomes.wrong), "{outcomes:?}");
        assert_eq!(outcomes.wrong + outcomes.refused, 200, "{outcomes:?}");
        is_locked_out(change_email(&ada, &lead.id, "new", PASSWORD).await);
        is_locked_out(change_email(&at(&second, &ada), &lead.id, "new", PASSWORD).await);
        assert_eq!(ada.get(&lead.id).await, lead);
    }

    async fn a_flood_with_the_right_one_in_it_gets_no_more(h: Harness) {
        let second = replica(&h).await;
        // The correct password comes early, so that its attempt is admitted. It releases its reservation
        // while the other attempts run.
        for (round, right) in [0, 1, 4].into_iter().enumerate() {
            let ada = h.operator(&format!("ada{round}"), Role::Sales).await;
            let lead = ada.create_lead("Lovelace").await;
            let outcomes = flood(&h, &second, &ada, &lead, 200, Some(right)).await;
            assert!((1..=5).contains(&(outcomes.wrong + outcomes.right)), "{outcomes:?}");
            assert_eq!(outcomes.wrong + outcomes.right + outcomes.refused, 200, "{outcomes:?}");
        }
    }

    async fn signing_in_is_counted_by_username_and_address(h: Harness) {
        h.operator("ada", Role::Sales).await;
        // All spellings count as one username.
        for username in ["ada", "ADA", " ada", "Ada ", "aDa"] {
            wrong_sign_in(&h, username).await;
        }
        is_locked_out(sign_in(h.channel(), "ada", PASSWORD).await);
        is_locked_out(sign_in(h.channel(), "Ada", PASSWORD).await);
        sign_in(h.channel(), "sales", PASSWORD).await.unwrap();
        let elsewhere = Some(Ipv4Addr::new(10, 0, 0, 1).into());
        let reservation = attempts::reserve(&h.server.app.auth, Bucket::sign_in("ada", elsewhere)).await;
        reservation.unwrap().succeeded(&h.server.app.auth).await.unwrap();
        h.clock.advance(Duration::minutes(15));
        sign_in(h.channel(), "ada", PASSWORD).await.unwrap();
    }

    async fn signing_in_is_counted_by_username_over_all_addresses(h: Harness) {
        let ada = h.operator("ada", Role::Sales).await;
        let auth = &h.server.app.auth;
        for host in 0..50 {
            let address: IpAddr = Ipv4Addr::new(10, 0, 0, host).into();
            let reservation = attempts::reserve(auth, Bucket::sign_in("ada", Some(address))).await;
            reservation.unwrap().failed().await.unwrap();
            if host == 48 {
                sign_in(h.channel(), "ada", PASSWORD).await.expect("49 are not 50");
            }
        }
        is_locked_out(sign_in(h.channel(), "ada", PASSWORD).await);
        let fresh = Some(Ipv4Addr::new(10, 0, 1, 1).into());
        let refused = attempts::reserve(auth, Bucket::sign_in("ada", fresh)).await;
        assert!(refused.is_err());
        sign_in(h.channel(), "sales", PASSWORD).await.unwrap();
        assert!(is_let_in(&ada).await, "a session that is open goes on");
        h.clock.advance(Duration::minutes(15));
        sign_in(h.channel(), "ada", PASSWORD).await.unwrap();
    }

    async fn signing_in_is_counted_by_the_network_of_an_ipv6_address(h: Harness) {
        let auth = &h.server.app.auth;
        let from = async |address: &str| {
            let buckets = Bucket::sign_in("ada", Some(address.parse().unwrap()));
            attempts::reserve(auth, buckets).await
        };
        for host in ["::1", "::2", ":1::1", ":ffff:ffff:ffff:ffff", "::5"] {
            let reservation = from(&format!("2001:db8:0:1{host}")).await;
            reservation.unwrap().failed().await.unwrap();
        }
        assert!(from("2001:db8:0:1::6").await.is_err(), "one customer has all of these");
        from("2001:db8:0:2::6").await.unwrap().succeeded(auth).await.unwrap();

        // An IPv4 address is the same however it is written.
        for _ in 0..3 {
            from("::ffff:10.0.0.1").await.unwrap().failed().await.unwrap();
        }
        for _ in 0..2 {
            from("10.0.0.1").await.unwrap().failed().await.unwrap();
        }
        assert!(from("10.0.0.1").await.is_err());
        assert!(from("::ffff:10.0.0.1").await.is_err());
        from("::ffff:10.0.0.2").await.unwrap().succeeded(auth).await.unwrap();
    }

    async fn signing_in_is_counted_by_address_over_all_usernames(h: Harness) {
        let auth = &h.server.app.auth;
        let from = async |username: &str, address: &str| {
            let buckets = Bucket::sign_in(username, Some(address.parse().unwrap()));
            attempts::reserve(auth, buckets).await
        };
        // Two guesses at each of 50 usernames, from 100 addresses of one network.
        for n in 0..100_u32 {
            let address = format!("2001:db8:0:1::{n:x}");
            let reservation = from(&format!("user{}", n % 50), &address).await;
            reservation.unwrap().failed().await.unwrap();
            if n == 98 {
                let right = from("ada", &address).await.expect("99 are not 100");
                right.succeeded(auth).await.unwrap();
            }
        }
        assert!(from("ada", "2001:db8:0:1::1").await.is_err());
        let elsewhere = from("ada", "2001:db8:0:2::1").await.unwrap();
        elsewhere.succeeded(auth).await.unwrap();
        sign_in(h.channel(), "sales", PASSWORD).await.unwrap();
        h.clock.advance(Duration::minutes(15));
        let later = from("ada", "2001:db8:0:1::1").await.unwrap();
        later.succeeded(auth).await.unwrap();
    }

    async fn unknown_usernames_are_counted_as_known_ones(h: Harness) {
        h.operator("ada", Role::Sales).await;
        for _ in 0..5 {
            wrong_sign_in(&h, "ada").await;
            wrong_sign_in(&h, "nobody").await;
        }
        let known = is_locked_out(sign_in(h.channel(), "ada", PASSWORD).await);
        let unknown = is_locked_out(sign_in(h.channel(), "nobody", PASSWORD).await);
        assert_eq!(whole(&unknown), whole(&known));
    }

    async fn a_stranger_cannot_lock_an_operator_out_of_the_work_at_hand(h: Harness) {
        let ada = h.operator("ada", Role::Sales).await;
        let lead = ada.create_lead("Lovelace").await;
        for _ in 0..5 {
            wrong_sign_in(&h, "ada").await;
        }
        is_locked_out(sign_in(h.channel(), "ada", PASSWORD).await);
        change_email(&ada, &lead.id, "new", PASSWORD).await.unwrap();
        change_password(&ada, PASSWORD, OTHER).await.unwrap();
    }

    async fn wrong_current_passwords_do_not_keep_from_signing_in(h: Harness) {
        let ada = h.operator("ada", Role::Sales).await;
        let lead = ada.create_lead("Lovelace").await;
        for _ in 0..5 {
            wrong_current_password(&ada, &lead).await;
        }
        is_locked_out(change_email(&ada, &lead.id, "new", PASSWORD).await);
        sign_in(h.channel(), "ada", PASSWORD).await.unwrap();
    }
}

/// The number of guesses by outcome.
#[derive(Debug, Default)]
struct Outcomes {
    wrong: usize,
    right: usize,
    refused: usize,
}

/// Makes this many concurrent guesses on both servers. The guess with the number `right`, if any, is correct.
async fn flood(
    h: &Harness,
    second: &Running,
    ada: &Caller,
    lead: &Lead,
    guesses: usize,
    right: Option<usize>,
) -> Outcomes {
    let mut calls = JoinSet::new();
    let callers = [at(&h.server, ada), at(second, ada)];
    for n in 0..guesses {
        let caller = callers[n % 2].clone();
        let id = lead.id.clone();
        let password = if right == Some(n) {
            PASSWORD.to_owned()
        } else {
            format!("guess number {n}")
        };
        calls.spawn(async move {
            // Each guess sets another email: an update that changes nothing requires no password.
            change_email(&caller, &id, &format!("guess{n}"), &password).await
        });
    }
    let mut outcomes = Outcomes::default();
    for answer in calls.join_all().await {
        match answer.map_err(|status| reason(&status)) {
            Ok(_) => outcomes.right += 1,
            Err(reason) => match reason.as_str() {
                "CURRENT_PASSWORD_INVALID" => outcomes.wrong += 1,
                "PASSWORD_ATTEMPTS_EXCEEDED" | "SERVER_OVERLOADED" => {
                    outcomes.refused += 1;
                }
                other => panic!("a guess was answered {other}"),
            },
        }
    }
    outcomes
}
