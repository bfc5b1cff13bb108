//! What must not compile: a call that skipped a gate.

#[test]
fn a_call_that_skips_a_gate_does_not_compile() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
