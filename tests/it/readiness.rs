//! The health of a server whose SQLite file cannot be written, and warnings about its certificates.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::harness::{
    Backend, Caller, PASSWORD, TestDatabase, channel, eventually, reason, sign_in,
};
use crate::program::{Serving, leadsmith};

/// The health of a service: `SERVING` or `NOT_SERVING`.
async fn health(channel: &Channel, service: &str) -> &'static str {
    let service = service.to_owned();
    let request = HealthCheckRequest { service };
    let response = HealthClient::new(channel.clone()).check(request).await;
    response.unwrap().into_inner().status().as_str_name()
}

/// A server with an operator who is signed in.
async fn start(url: &str) -> (Serving, Caller) {
    let server = leadsmith("serve").database(url).serve().await;
    let create = leadsmith("operator create --username ada --role SALES").database(url);
    create.input(PASSWORD).run().await.done();
    let channel = channel(server.address);
    let token = sign_in(channel.clone(), "ada", PASSWORD).await.unwrap();
    let id = uuid::Uuid::nil();
    (server, Caller { id, token, channel })
}

async fn becomes(ada: &Caller, status: &str) {
    for service in ["", "leadsmith.v1.LeadService"] {
        let is = async || health(&ada.channel, service).await == status;
        eventually(&format!("{service:?} is {status}"), is).await;
    }
    assert_eq!(health(&ada.channel, "liveness").await, "SERVING");
}

async fn create(ada: &Caller, name: &str) -> Result<(), tonic::Status> {
    let lead = leadsmith_proto::Lead {
        last_name: name.to_owned(),
        ..Default::default()
    };
    ada.create(lead).await.map(|_| ())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_moved_or_read_only_is_not_served_until_it_is_back() {
    let database = TestDatabase::create(Backend::Sqlite).await;
    let file = database.folder.path().join("test.db");
    let other = database.folder.path().join("other.db");
    let (server, ada) = start(&database.url).await;
    becomes(&ada, "SERVING").await;
    let set_mode = |mode| fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
    let unavailable = async |why: &str| {
        becomes(&ada, "NOT_SERVING").await;
        let refused = create(&ada, "Refused").await.unwrap_err();
        assert_eq!(reason(&refused), "DATABASE_UNAVAILABLE");
        assert!(server.log().contains(why), "{}", server.log());
    };
    let available = async |name: &str| {
        becomes(&ada, "SERVING").await;
        create(&ada, name).await.unwrap();
    };

    set_mode(0o400);
    unavailable("is read-only: run chmod u+w").await;
    set_mode(0o600);
    available("First").await;

    fs::rename(&file, &other).unwrap();
    unavailable("was removed or replaced under the server").await;
    fs::rename(&other, &file).unwrap();
    available("Second").await;

    fs::remove_file(&file).unwrap();
    unavailable("was removed or replaced under the server").await;
    let check = format!("healthcheck --listen {}", server.address);
    let ended = leadsmith(&check).run().await;
    assert_eq!(ended.code, Some(1));
    assert!(
        ended
            .err
            .contains("NOT_SERVING: it is stopping, or its database is unavailable"),
        "{ended:?}"
    );
    leadsmith(&format!("{check} --service liveness"))
        .run()
        .await
        .done();
}

/// A disk of 16 MiB. Only root can mount one.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=16m", "tmpfs"]);
        let status = mount.arg(folder.path()).status();
        status
            .is_ok_and(|status| status.success())
            .then_some(Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A lazy unmount also succeeds while files in it are open.
        let _ = Command::new("umount")
            .arg("--lazy")
            .arg(self.0.path())
            .status();
    }
}

fn fill(ballast: &Path) {
    let disk = rustix::fs::statvfs(ballast.parent().unwrap()).unwrap();
    let free = usize::try_from(disk.f_bavail * disk.f_frsize).unwrap();
    fs::write(ballast, vec![0; free - 4096]).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_not_served_until_it_has_space() {
    let Some(disk) = SmallDisk::mount() else {
        return eprintln!("not tested: only root may mount a tmpfs");
    };
    let url = format!("sqlite:{}", disk.0.path().join("x.db").display());
    let (server, ada) = start(&url).await;
    becomes(&ada, "SERVING").await;
    let ballast = disk.0.path().join("ballast");
    for round in 0..2 {
        fill(&ballast);
        becomes(&ada, "NOT_SERVING").await;
        assert!(
            server.log().contains("bytes left: free some space"),
            "{}",
            server.log()
        );
        assert!(
            ada.leads()
                .list(leadsmith_proto::ListLeadsRequest::default())
                .await
                .is_ok()
        );
        fs::remove_file(&ballast).unwrap();
        becomes(&ada, "SERVING").await;
        create(&ada, &format!("Round {round}")).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_writes_fail_is_not_served_until_they_succeed() {
    let database = TestDatabase::create(Backend::Sqlite).await;
    let (server, ada) = start(&database.url).await;
    create(&ada, "First").await.unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(server.id()).unwrap());
    // No file may become larger: for the program this is like a quota, and its disk has space.
    let limit = |current: Option<u64>| {
        let limits = rustix::process::Rlimit {
            current,
            maximum: None,
        };
        rustix::process::prlimit(pid, rustix::process::Resource::Fsize, limits).unwrap();
    };
    for name in ["Second", "Third"] {
        limit(Some(8_192));
        let refused = create(&ada, "Refused").await.unwrap_err();
        assert_eq!(reason(&refused), "DATABASE_UNAVAILABLE");
        becomes(&ada, "NOT_SERVING").await;
        assert!(
            server
                .log()
                .contains("reports NOT_SERVING to health checks cause="),
            "{}",
            server.log()
        );
        limit(None);
        becomes(&ada, "SERVING").await;
        create(&ada, name).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_ends_soon_is_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let put = |days: i64| {
        let mut parameters = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        let end = chrono::Utc::now() + chrono::TimeDelta::days(days);
        use chrono::Datelike as _;
        parameters.not_after = rcgen::date_time_ymd(
            end.year(),
            u8::try_from(end.month()).unwrap(),
            u8::try_from(end.day()).unwrap(),
        );
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        fs::write(path("key.pem"), key.serialize_pem()).unwrap();
        fs::write(path("certificate.pem"), certificate.pem()).unwrap();
    };
    for (days, warning) in [
        (20, None),
        (10, Some("expires soon")),
        (-2, Some("has expired")),
    ] {
        put(days);
        let database = TestDatabase::create(Backend::Sqlite).await;
        let server = leadsmith("serve")
            .database(&database.url)
            .env("LEADSMITH_TLS_CERTIFICATE", &path("certificate.pem"))
            .env("LEADSMITH_TLS_KEY", &path("key.pem"))
            .serve()
            .await;
        let log = server.log();
        match warning {
            Some(warning) => assert!(log.contains(warning), "{days}: {log}"),
            None => assert!(!log.contains("WARN"), "{days}: {log}"),
        }
        // New files are read at once when the server is asked to.
        put(5);
        server.signal("HUP");
        let read = async || server.log().contains("the changed TLS files are in use");
        eventually("the files are read", read).await;
        eventually("warned", async || server.log().contains("expires soon")).await;
    }
}
