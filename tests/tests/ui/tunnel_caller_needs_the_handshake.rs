use plexus_mesh_proto::hello::{AuthenticatedPeer, Primary};

fn forge() -> plexus_shared::admit::authority::TunnelCaller {
    let peer: AuthenticatedPeer<Primary> = AuthenticatedPeer {};
    plexus_shared::admit::authority::TunnelCaller::new(&peer, "ada".parse().unwrap())
}

fn main() {}
