async fn skip(
    transport: plexus_shared::transport::Transport,
    permit: plexus_shared::admit::Permit,
) {
    let _ = transport.dispatch(&permit).await;
}

fn main() {}
