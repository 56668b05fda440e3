//! Client of the admin endpoint against a test server on loopback with fixed responses.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;

/// Serves one connection; returns the request, and the result of `ask`.
fn with_admin<T>(answer: &str, ask: impl AsyncFnOnce(EnvoyAdmin) -> T) -> (String, T) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let admin = EnvoyAdmin::at(listener.local_addr().unwrap());
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = vec![0; 1024];
            let read = stream.read(&mut asked).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            asked.truncate(read);
            let line = String::from_utf8(asked).unwrap().lines().next().unwrap().to_owned();
            (line, stream)
        };
        let ((line, _open), answer) = tokio::join!(serve, ask(admin));
        (line, answer)
    })
}

fn http(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

#[test]
fn ready_is_live_or_not() {
    let ask = async |admin: EnvoyAdmin| admin.ready().await.ok();
    assert_eq!(
        with_admin(&http("200 OK", "LIVE\n"), ask),
        ("GET /ready HTTP/1.1".into(), Some(Liveness::Live))
    );
    assert_eq!(
        with_admin(&http("503 Service Unavailable", "INITIALIZING\n"), ask).1,
        Some(Liveness::NotLive)
    );
    assert_eq!(with_admin(&http("404 Not Found", ""), ask).1, None);
}

#[test]
fn only_our_own_epoch_of_our_own_bootstrap_is_live() {
    let check = |state: &str, options: &str, expected| {
        let body = format!(r#"{{"state":"{state}","command_line_options":{options}}}"#);
        let ask = async |admin: EnvoyAdmin| admin.identify(0, Path::new("/etc/envoy-rev0.json")).await.ok();
        assert_eq!(with_admin(&http("200 OK", &body), ask).1, expected, "{body}");
    };
    let ours = r#"{"config_path":"/etc/envoy-rev0.json","restart_epoch":0}"#;
    check("LIVE", ours, Some(Identity::Live));
    check("INITIALIZING", ours, Some(Identity::NotLive));
    check("LIVE", r#"{"config_path":"/etc/envoy-rev0.json","restart_epoch":1}"#, Some(Identity::Other));
    check("LIVE", r#"{"config_path":"/etc/other.json"}"#, Some(Identity::Other));
    check("LIVE", "3", None);
}

#[test]
fn a_drain_refuses_nobody() {
    let inbound =
        with_admin(&http("200 OK", "OK\n"), async |admin| admin.drain(DrainScope::Inbound).await.is_ok());
    assert_eq!(inbound, ("POST /drain_listeners?inboundonly&graceful&skip_exit HTTP/1.1".into(), true));
    let all = with_admin(&http("200 OK", "OK\n"), async |admin| admin.drain(DrainScope::All).await.is_ok());
    assert_eq!(all, ("POST /drain_listeners?graceful&skip_exit HTTP/1.1".into(), true));
}

#[test]
fn whoever_does_not_answer_is_given_up_in_time() {
    let patience = Duration::from_millis(20);
    let cut_short = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nLI";
    for answer in ["", "HTTP/1.1 200 OK\r\n", cut_short] {
        let ask = async |admin: EnvoyAdmin| admin.ask(Method::GET, "/ready", patience).await;
        assert!(matches!(with_admin(answer, ask).1, Err(AdminError::Silent(_))), "{answer:?}");
    }
}

#[test]
fn what_may_be_done_to_envoy_is_done_by_post() {
    let check = |expected: &str, ask: &dyn Fn(EnvoyAdmin) -> Asked| {
        let (line, answered) = with_admin(&http("200 OK", "OK\n"), async |admin| ask(admin).await.is_ok());
        assert_eq!((line.as_str(), answered), (expected, true));
    };
    check("POST /drain_listeners HTTP/1.1", &|admin| Box::pin(async move { admin.close_listeners().await }));
    check("POST /logging?paths=http:debug HTTP/1.1", &|admin| {
        Box::pin(async move { admin.log_level("http:debug").await })
    });
}

type Asked = std::pin::Pin<Box<dyn Future<Output = Result<(), AdminError>>>>;

#[test]
fn levels_that_are_none_are_not_even_asked_for() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let admin = EnvoyAdmin::at(AdminAddress::Unix("/nowhere/admin.sock".into()));
    assert!(matches!(runtime.block_on(admin.log_level("loud")), Err(AdminError::Level(_))));
    assert!(matches!(runtime.block_on(admin.log_level("debug")), Err(AdminError::Connect(_))));
}

#[test]
fn the_hot_restart_version_is_a_line() {
    let ask = async |admin: EnvoyAdmin| admin.hot_restart_version().await.ok();
    assert_eq!(with_admin(&http("200 OK", "11.104\n"), ask).1.as_deref(), Some("11.104"));
}

#[tokio::test]
async fn a_socket_in_the_file_system_is_as_good_as_a_port() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = [0; 1024];
        assert!(stream.read(&mut asked).await.unwrap() > 0);
        stream.write_all(http("200 OK", "LIVE\n").as_bytes()).await.unwrap();
        stream
    };
    let admin = EnvoyAdmin::at(AdminAddress::Unix(path.clone()));
    assert_eq!(admin.address.to_string(), format!("unix:{}", path.display()));
    let (_open, ready) = tokio::join!(serve, admin.ready());
    assert_eq!(ready.unwrap(), Liveness::Live);
}
