//! The binary `neap`: every role and every command. See [`neap::cli`].

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    neap::cli::main(std::env::args_os())
}
