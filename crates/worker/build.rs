//! Generates the client of `service Workers`; the server's half too, which only the tests use.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=../proto/proto");
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    for (name, client) in [("client", true), ("server", false)] {
        let descriptors = protox::compile(["muster/v1/worker.proto"], ["../proto/proto"])?;
        let dir = out.join(name);
        std::fs::create_dir_all(&dir)?;
        tonic_prost_build::configure()
            .build_client(client)
            .build_server(!client)
            .extern_path(".muster.v1", "::muster_proto::v1")
            .out_dir(dir)
            .compile_fds(descriptors)?;
    }
    Ok(())
}
