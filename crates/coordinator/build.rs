//! Compiles the server stubs of the services, and lists their methods; the messages are those of muster-proto.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let protos = "../proto/proto";
    println!("cargo:rerun-if-changed={protos}");
    let files = ["api", "worker"].map(|name| format!("{protos}/muster/v1/{name}.proto"));
    let compiled = protox::compile(files, [protos])?;
    let mut methods = Vec::new();
    for file in &compiled.file {
        for service in &file.service {
            let of = |method: &str| format!("/{}.{}/{method}", file.package(), service.name());
            methods.extend(service.method.iter().map(|method| of(method.name())));
        }
    }
    let out = std::path::Path::new(&std::env::var("OUT_DIR")?).join("methods.rs");
    std::fs::write(out, format!("&{methods:?}"))?;
    tonic_prost_build::configure()
        .build_client(false)
        .extern_path(".muster.v1", "::muster_proto::v1")
        .compile_fds(compiled)?;
    Ok(())
}
