fn main() {
    let _ = plexus_shared::admit::Permit {};
}
