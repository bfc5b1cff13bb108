//! What a browser sees where `approvalUrl` and `consoleUrl` lead: how the owner answers. It holds
//! nothing of anyone's, loads nothing and runs nothing.

use axum::http::HeaderName;
use axum::http::header::{CONTENT_SECURITY_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::response::Html;

const PAGE: &str = include_str!("page.html");

/// Shows the page.
pub async fn show() -> ([(HeaderName, &'static str); 2], Html<&'static str>) {
    let alone = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    ([(CONTENT_SECURITY_POLICY, alone), (X_CONTENT_TYPE_OPTIONS, "nosniff")], Html(PAGE))
}
