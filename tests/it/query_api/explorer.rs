//! The explorer: a page that needs nobody else.

use super::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn the_explorer_is_whole_and_asks_no_other_host() {
    let world = World::new().await;
    let page = world.stranger("/graphql").await;
    assert_eq!(page.status(), 200);
    let policy = page.headers()["content-security-policy"]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(policy.starts_with("default-src 'none';"), "{policy}");
    assert!(
        !policy.contains("unsafe") && !policy.contains('*') && !policy.contains("http"),
        "{policy}"
    );
    let html = page.text().await.unwrap();
    let mut files = vec![html.clone()];
    for path in ["/graphql/explorer.js", "/graphql/explorer.css"] {
        assert!(html.contains(path), "the page leads to {path}");
        let file = world.stranger(path).await;
        assert_eq!(file.status(), 200, "{path}");
        assert_eq!(file.headers()["x-content-type-options"], "nosniff");
        files.push(file.text().await.unwrap());
    }
    for file in &files {
        for outside in [
            "http:", "https:", "\"//", "'//", "url(", "@import", "import(",
        ] {
            assert!(!file.contains(outside), "{outside}");
        }
    }
    let lower = html.to_lowercase();
    for inline in [
        " onclick",
        " onload",
        " oninput",
        "javascript:",
        " style=",
        "<style",
    ] {
        assert!(
            !lower.contains(inline),
            "the policy would not let {inline} run"
        );
    }
    assert_eq!(
        lower.matches("<script").count(),
        lower.matches("<script src=").count()
    );
    // Text of answers never becomes markup.
    for sink in [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
    ] {
        assert!(!files[1].contains(sink), "{sink}");
    }
}
