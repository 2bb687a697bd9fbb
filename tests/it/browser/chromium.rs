//! A Chromium without a window, driven over its DevTools protocol: a WebSocket that takes commands as JSON.
//!
//! Source: chromedevtools.github.io/devtools-protocol (Runtime, Input, Page).

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use chat4all_cli::embedded::temp_dir;
use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

/// What `make test-browser` links to.
const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../.tools/browser/chromium");
/// How long a browser may take for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// A page in a browser of its own, which ends with it.
pub struct Page {
    socket: WebSocketStream<TcpStream>,
    commands: u64,
    browser: Child,
    _profile: TempDir,
}

impl Page {
    pub async fn open(url: &str) -> Self {
        assert!(
            Path::new(PROGRAM).exists(),
            "Chromium is not there: `make test-browser` gets it"
        );
        let profile = temp_dir().unwrap();
        let browser = Command::new(PROGRAM)
            .args([
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
            ])
            .args([
                "--disable-background-networking",
                "--no-first-run",
                "--remote-debugging-port=0",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .env("HOME", profile.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let port = port(profile.path()).await;
        let socket = page_of(port).await;
        let mut page = Self {
            socket,
            commands: 0,
            browser,
            _profile: profile,
        };
        page.asks("Page.navigate", json!({"url": url})).await;
        page.until("document.readyState", "the page", |state| {
            *state == "complete"
        })
        .await;
        page
    }

    /// Waits until an element of that selector has just this text.
    pub async fn shows(&mut self, selector: &str, text: &str) {
        let script = format!(
            "[...document.querySelectorAll({})].map(found => found.textContent)",
            json!(selector)
        );
        let there = |found: &Value| {
            found
                .as_array()
                .is_some_and(|all| all.contains(&json!(text)))
        };
        self.until(&script, selector, there).await;
    }

    pub async fn text_of(&mut self, selector: &str) -> String {
        let script = format!("document.querySelector({}).textContent", json!(selector));
        self.tells(&script).await.as_str().unwrap().to_owned()
    }

    /// Over what was there, as a keyboard would.
    pub async fn types_into(&mut self, selector: &str, text: &str) {
        let script = format!(
            "{{ const into = document.querySelector({}); into.focus(); into.select(); }}",
            json!(selector)
        );
        self.tells(&script).await;
        self.asks("Input.insertText", json!({"text": text})).await;
    }

    pub async fn presses_enter(&mut self) {
        let key =
            json!({"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"});
        for kind in ["keyDown", "keyUp"] {
            let mut event = key.clone();
            event["type"] = kind.into();
            self.asks("Input.dispatchKeyEvent", event).await;
        }
    }

    pub async fn clicks(&mut self, selector: &str) {
        let script = format!("document.querySelector({}).click()", json!(selector));
        self.tells(&script).await;
    }

    async fn until(&mut self, script: &str, what: &str, is: impl Fn(&Value) -> bool) {
        let begun = Instant::now();
        loop {
            let seen = self.tells(script).await;
            if is(&seen) {
                return;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "{what}: the last seen was {seen}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What a script in the page gives.
    async fn tells(&mut self, script: &str) -> Value {
        let asked = json!({"expression": script, "returnByValue": true});
        let answer = self.asks("Runtime.evaluate", asked).await;
        assert!(answer["exceptionDetails"].is_null(), "{script}: {answer:#}");
        answer["result"]["value"].clone()
    }

    async fn asks(&mut self, method: &str, parameters: Value) -> Value {
        self.commands += 1;
        let command = json!({"id": self.commands, "method": method, "params": parameters});
        let sent = self.socket.send(Message::text(command.to_string())).await;
        sent.unwrap();
        loop {
            let came = tokio::time::timeout(PATIENCE, self.socket.next()).await;
            let came = came.expect("the browser answers").unwrap().unwrap();
            let Message::Text(text) = came else { continue };
            let mut answer: Value = serde_json::from_str(&text).unwrap();
            if answer["id"] == self.commands {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].take();
            }
        }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let _ = self.browser.kill();
        let _ = self.browser.wait();
    }
}

/// Where it listens, once it has written that down.
async fn port(profile: &Path) -> u16 {
    let begun = Instant::now();
    loop {
        let said = std::fs::read_to_string(profile.join("DevToolsActivePort"));
        let port = said.ok().and_then(|said| said.lines().next()?.parse().ok());
        if let Some(port) = port {
            return port;
        }
        assert!(begun.elapsed() < PATIENCE, "Chromium does not start");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A connection to its only page.
async fn page_of(port: u16) -> WebSocketStream<TcpStream> {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let begun = Instant::now();
    let url = loop {
        let listed = client
            .get(format!("http://127.0.0.1:{port}/json/list"))
            .send()
            .await;
        let pages: Value = listed.unwrap().json().await.unwrap();
        let mut all = pages.as_array().unwrap().iter();
        let page = all.find(|target| target["type"] == "page");
        if let Some(url) = page.and_then(|page| page["webSocketDebuggerUrl"].as_str()) {
            break url.to_owned();
        }
        assert!(begun.elapsed() < PATIENCE, "no page: {pages}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (socket, _) = client_async(url, stream).await.unwrap();
    socket
}
