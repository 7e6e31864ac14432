//! The binary `neap`: every role and every command. See [`neap::main`].

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    neap::main(neap::Entries::builtin())
}
