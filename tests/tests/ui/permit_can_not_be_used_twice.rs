fn twice(permit: plexus_shared::admit::Permit) -> [plexus_shared::admit::Permit; 2] {
    [permit.clone(), permit]
}

fn main() {}
