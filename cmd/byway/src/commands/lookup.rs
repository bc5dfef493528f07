//! `byway lookup`.

use byway_identity::Addr;
use serde::Serialize;

use super::Context;
use crate::failure::Failure;
use crate::target::resolve;

/// Shows the public key behind an address.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Address or petname.
    #[arg(allow_hyphen_values = true)]
    addr: String,
    /// Most seconds to look.
    #[arg(long, value_name = "S", default_value_t = 10.0)]
    wait: f64,
}

#[derive(Serialize)]
struct Answer {
    addr: Addr,
    algorithm: &'static str,
    /// 32 bytes in hexadecimal digits.
    public_key: String,
}

/// Runs it.
pub(crate) async fn run(args: &Args, context: &mut Context<'_, '_>) -> Result<(), Failure> {
    let addr = resolve(context.service, &args.addr).await?;
    let mut request = context.request();
    request.deadline = Some(super::seconds(args.wait)?);
    let key = context.service.main().lookup(addr, request).await?;
    let public_key: String = key.as_raw().iter().map(|byte| format!("{byte:02x}")).collect();
    if context.out.json {
        return context.out.object(&Answer { addr, algorithm: "ed25519", public_key });
    }
    context.out.line(format!("ed25519 {public_key}"))
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;

    #[tokio::test]
    async fn the_key_of_a_known_address_is_printed_and_of_another_is_a_no() {
        let fake = Fake::new();
        let args = Args { addr: fake.addr().to_string(), wait: 0.05 };
        let text = fake.run(async |context| run(&args, context).await).await.data();
        assert!(text.starts_with("ed25519 ") && text.trim_end().len() == 8 + 64, "{text}");
        let args = Args { addr: Addr::from_bytes([1; 32]).to_string(), wait: 0.05 };
        assert_eq!(fake.run(async |context| run(&args, context).await).await.status(), 1);
    }
}
