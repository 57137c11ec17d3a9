//! The `authorization` header: every missing or invalid value gets the same error.

use leadsmith::core::role::Role;
use tonic::Code;

use super::everything;
use crate::harness::reason;
use crate::{on_both, raw};

on_both! {
    async fn every_bad_authorization_gets_one_answer(h: Harness) {
        let token = h.admin.token.clone();
        let key = h.service_account("billing", Role::Admin).await.token;
        let rpc = "leadsmith.v1.AuthService/WhoAmI";
        for valid in [format!("Bearer {token}"), format!("bearer {key}")] {
            let answer = raw::call(&h.channel(), rpc, Some(valid.as_bytes()), Vec::new()).await;
            assert!(answer.is_ok(), "the scheme's letter case does not matter: {answer:?}");
        }
        let none = raw::call(&h.channel(), rpc, None, Vec::new()).await.unwrap_err();
        assert_eq!(none.code(), Code::Unauthenticated);
        assert_eq!(reason(&none), "TOKEN_INVALID");

        let (body, last) = token.split_at(token.len() - 1);
        let changed = if last == "A" { "B" } else { "A" };
        let bad = [
            String::new(),
            " ".into(),
            "Bearer".into(),
            "Bearer ".into(),
            token.clone(),
            format!("Basic {token}"),
            format!("Token {token}"),
            format!("Bearer{token}"),
            format!("Bearer,{token}"),
            format!("Bearer Bearer {token}"),
            format!("Bearer {body}"),
            format!("Bearer {body}{changed}"),
            format!("Bearer {token}A"),
            format!("Bearer {token} {token}"),
            format!("Bearer {}", token.to_uppercase()),
            format!("Bearer {}", token.replacen("lss_", "lsk_", 1)),
            format!("Bearer {}", key.replacen("lsk_", "lss_", 1)),
            format!("Bearer {}", token.replacen("lss_", "lsx_", 1)),
            format!("Bearer lss_{}", "A".repeat(43)),
            format!("Bearer lsk_{}", "A".repeat(43)),
            format!("Bearer lss_{}", "A".repeat(12 * 1024)),
            "x".repeat(12 * 1024),
        ];
        let mut bad: Vec<Vec<u8>> = bad.into_iter().map(String::into_bytes).collect();
        bad.push([b"Bearer lss_".as_slice(), &[0xff; 43]].concat());
        for header in &bad {
            let answer = raw::call(&h.channel(), rpc, Some(header), Vec::new()).await;
            let shown = String::from_utf8_lossy(&header[..header.len().min(60)]);
            let status = answer.expect_err(&shown);
            assert_eq!(everything(&status), everything(&none), "{shown}");
        }
    }
}
