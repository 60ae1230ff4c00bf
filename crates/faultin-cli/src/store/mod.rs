//! `faultin store`: tries out what an object store honours.

use std::process::ExitCode;

/// Try out what an object store (S3, GCS, Azure, or a server that is compatible with one) honours
///
/// This command is in builds with the feature `store` only.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(clap::Subcommand)]
enum Task {
    /// Print a table of what a store honours: ranges, conditions on reads and writes, etags, read-after-write
    ///
    /// A store may accept a condition and ignore it. So this command writes, reads and removes small objects whose names begin with
    /// that of the URL, with conditions that must not hold, and with eight clients that race for one object. It makes about 500
    /// requests. The table has a line for each promise. Reading needs the first group: without them, `faultin sum` and the library
    /// `faultin-store` may not notice that an object was replaced. Fencing needs the second group: without them, locks and
    /// leases that are objects do not work. A check that is interrupted leaves objects behind, in a folder faultin-check-….
    ///
    /// Credentials and the endpoint are read from the usual environment variables, such as AWS_ACCESS_KEY_ID,
    /// AWS_SECRET_ACCESS_KEY, AWS_REGION and AWS_ENDPOINT (and AWS_ALLOW_HTTP=true for an endpoint without TLS).
    ///
    /// Exit status: 0 if the store honours everything; 3 if it does not honour what fencing needs, and objects can be read;
    /// 1 if it does not honour what reading needs, that could not be found out, or the table could not be printed; 2 for wrong
    /// arguments, and for a URL that cannot be used.
    Check {
        /// Where to put the objects: s3://BUCKET/FOLDER, gs://, az://, file:///FOLDER
        url: String,
    },
}

/// The status of a store that objects can be read from, and that cannot fence.
#[cfg(feature = "store")]
const NO_FENCING: u8 = 3;

/// Runs the subcommand.
#[cfg(feature = "store")]
pub fn run(args: &Args) -> ExitCode {
    use faultin_store::Store;
    use faultin_store::check::{Need, check};

    crate::keep_out_of_cores();
    let Task::Check { url } = &args.task;
    let store = match Store::new() {
        Ok(store) => store,
        Err(error) => {
            eprintln!("faultin store: no threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    let report = match check(&store, url) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("faultin store: {error}");
            return ExitCode::from(2);
        }
    };
    if !crate::printed(&report.to_string()) {
        return ExitCode::FAILURE;
    }
    match (report.honours(Need::Reading), report.honours(Need::Fencing)) {
        (true, true) => ExitCode::SUCCESS,
        (true, false) => ExitCode::from(NO_FENCING),
        (false, _) => ExitCode::FAILURE,
    }
}

/// Reports that this build cannot do it.
#[cfg(not(feature = "store"))]
pub fn run(args: &Args) -> ExitCode {
    let Task::Check { url } = &args.task;
    eprintln!("faultin store: {}: {}", crate::url::told(url).escape_debug(), crate::NO_STORES);
    ExitCode::from(2)
}
