//! Compiles the `.proto` files to Rust with a compiler written in Rust: no `protoc` is needed to build muster.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["types", "command", "api", "worker", "snapshot", "workspace"]
        .map(|name| format!("proto/muster/v1/{name}.proto"));
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(files, ["proto"])?;
    prost_build::Config::new().bytes(["."]).compile_fds(descriptors)?;
    Ok(())
}
