//! Compiles the server stubs of the services; the messages are those of muster-proto.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let protos = "../proto/proto";
    println!("cargo:rerun-if-changed={protos}");
    let files = ["api", "worker"].map(|name| format!("{protos}/muster/v1/{name}.proto"));
    tonic_prost_build::configure()
        .build_client(false)
        .extern_path(".muster.v1", "::muster_proto::v1")
        .compile_fds(protox::compile(files, [protos])?)?;
    Ok(())
}
