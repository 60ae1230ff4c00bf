//! The operations of S3 on objects in memory.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use futures_util::{StreamExt, TryStreamExt, stream};
use hyper::body::Bytes;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    Error, GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, UpdateVersion,
};
use s3s::dto::{
    DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput, DeletedObject, ETag, ETagCondition,
    GetObjectInput, GetObjectOutput, HeadBucketInput, HeadBucketOutput, HeadObjectInput, HeadObjectOutput,
    PutObjectInput, PutObjectOutput, StreamingBlob, Timestamp,
};
use s3s::{Body, S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};

/// Objects in memory; the path of each begins with its bucket.
///
/// An etag is the number of the write, from [`InMemory`], and the hash of the bytes: a server that has other bytes after a restart
/// has another etag.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    memory: Arc<InMemory>,
    /// By the number.
    hashes: Arc<Mutex<HashMap<String, String>>>,
}

impl Objects {
    /// Stores an object. Returns its etag.
    pub async fn put(&self, path: &Path, chunks: Vec<Bytes>, mode: PutMode) -> Result<String, Error> {
        let mut hasher = DefaultHasher::new();
        chunks.iter().for_each(|chunk| hasher.write(chunk));
        let options = PutOptions { mode, ..Default::default() };
        let put = self.memory.put_opts(path, PutPayload::from_iter(chunks), options).await?;
        let number = put.e_tag.unwrap_or_default();
        Ok(self.etag(&number, || hasher))
    }

    /// Returns the etag of a write; `hash` has read its bytes.
    fn etag(&self, number: &str, hash: impl FnOnce() -> DefaultHasher) -> String {
        let number = number.trim_matches('"');
        let mut hashes = self.hashes.lock().unwrap_or_else(PoisonError::into_inner);
        let hash = hashes.entry(number.to_owned()).or_insert_with(|| format!("{:016x}", hash().finish()));
        format!("\"{number}-{hash}\"")
    }

    /// Returns an object's etag, bytes and description, if the conditions hold.
    async fn look(&self, path: &Path, conditions: GetOptions) -> S3Result<(Option<ETag>, ObjectMeta, Bytes)> {
        let found = self.memory.get_opts(path, conditions).await.map_err(s3)?;
        let (meta, bytes) = (found.meta.clone(), found.bytes().await.map_err(s3)?);
        let hash = || {
            let mut hasher = DefaultHasher::new();
            hasher.write(&bytes);
            hasher
        };
        let etag = meta.e_tag.as_deref().and_then(|number| self.etag(number, hash).parse().ok());
        Ok((etag, meta, bytes))
    }

    /// Returns what [`InMemory`] calls an etag; for one that no object has, what it calls none.
    fn number(&self, etag: &ETag) -> String {
        let hashes = self.hashes.lock().unwrap_or_else(PoisonError::into_inner);
        match etag.value().split_once('-') {
            Some((number, hash)) if hashes.get(number).is_some_and(|known| known == hash) => format!("\"{number}\""),
            _ => "\"of no object\"".to_owned(),
        }
    }

    fn conditions(
        &self,
        if_match: Option<ETagCondition>,
        if_none_match: Option<ETagCondition>,
        if_modified_since: Option<Timestamp>,
        if_unmodified_since: Option<Timestamp>,
    ) -> S3Result<GetOptions> {
        if if_modified_since.is_some() || if_unmodified_since.is_some() {
            return Err(s3_error!(NotImplemented, "conditions on times"));
        }
        let header = |condition| match condition {
            ETagCondition::ETag(etag) => self.number(&etag),
            ETagCondition::Any => "*".to_owned(),
        };
        Ok(GetOptions {
            if_match: if_match.map(header),
            if_none_match: if_none_match.map(header),
            ..Default::default()
        })
    }
}

#[async_trait::async_trait]
impl S3 for Objects {
    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let input = request.input;
        let conditions =
            self.conditions(input.if_match, input.if_none_match, input.if_modified_since, input.if_unmodified_since)?;
        let (e_tag, meta, bytes) = self.look(&path(&input.bucket, &input.key), conditions).await?;
        let part = part(input.range, meta.size)?;
        let content_range = part.as_ref().map(|part| format!("bytes {}-{}/{}", part.start, part.end - 1, meta.size));
        let bytes = match part {
            Some(part) => bytes.slice(part.start as usize..part.end as usize),
            None => bytes,
        };
        Ok(S3Response::new(GetObjectOutput {
            accept_ranges: Some("bytes".into()),
            content_length: Some(bytes.len() as i64),
            content_range,
            content_type: Some("application/octet-stream".into()),
            e_tag,
            last_modified: Some(modified(&meta)),
            body: Some(StreamingBlob::from(Body::from(bytes))),
            ..Default::default()
        }))
    }

    async fn head_object(&self, request: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = request.input;
        let conditions =
            self.conditions(input.if_match, input.if_none_match, input.if_modified_since, input.if_unmodified_since)?;
        let (e_tag, meta, _) = self.look(&path(&input.bucket, &input.key), conditions).await?;
        Ok(S3Response::new(HeadObjectOutput {
            accept_ranges: Some("bytes".into()),
            content_length: Some(meta.size as i64),
            content_type: Some("application/octet-stream".into()),
            e_tag,
            last_modified: Some(modified(&meta)),
            ..Default::default()
        }))
    }

    /// The condition is checked and the object replaced under one lock, [`InMemory`]'s.
    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let input = request.input;
        let mode = match (input.if_match, input.if_none_match) {
            (None, None) => PutMode::Overwrite,
            (None, Some(ETagCondition::Any)) => PutMode::Create,
            (Some(ETagCondition::ETag(etag)), None) => {
                PutMode::Update(UpdateVersion { e_tag: Some(self.number(&etag)), version: None })
            }
            _ => return Err(s3_error!(NotImplemented, "this condition on a write")),
        };
        let body = input.body.ok_or_else(|| s3_error!(IncompleteBody))?;
        let chunks: Vec<Bytes> = body.try_collect().await.map_err(|error| {
            let mut incomplete = S3Error::new(S3ErrorCode::IncompleteBody);
            incomplete.set_source(error);
            incomplete
        })?;
        let etag = self.put(&path(&input.bucket, &input.key), chunks, mode).await.map_err(s3)?;
        let e_tag = etag.parse().ok();
        Ok(S3Response::new(PutObjectOutput { e_tag, ..Default::default() }))
    }

    async fn delete_object(&self, request: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        let input = request.input;
        self.memory.delete(&path(&input.bucket, &input.key)).await.map_err(s3)?;
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let input = request.input;
        let keys: Vec<String> = input.delete.objects.into_iter().map(|object| object.key).collect();
        let paths: Vec<_> = keys.iter().map(|key| Ok(path(&input.bucket, key))).collect();
        let deleted = self.memory.delete_stream(stream::iter(paths).boxed());
        deleted.try_collect::<Vec<_>>().await.map_err(s3)?;
        let deleted = keys.into_iter().map(|key| DeletedObject { key: Some(key), ..Default::default() }).collect();
        Ok(S3Response::new(DeleteObjectsOutput { deleted: Some(deleted), ..Default::default() }))
    }

    /// Each bucket exists.
    async fn head_bucket(&self, _: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        Ok(S3Response::new(HeadBucketOutput::default()))
    }
}

fn path(bucket: &str, key: &str) -> Path {
    Path::from(format!("{bucket}/{key}"))
}

/// Returns the part that a request asks for, as far as the object has it; `None` for all of the object.
///
/// # Errors
/// If the object has none of it.
fn part(range: Option<s3s::dto::Range>, size: u64) -> S3Result<Option<Range<u64>>> {
    range.map(|range| range.check(size).map_err(|_| s3_error!(InvalidRange))).transpose()
}

fn modified(meta: &ObjectMeta) -> Timestamp {
    SystemTime::from(meta.last_modified).into()
}

fn s3(error: Error) -> S3Error {
    let code = match &error {
        Error::NotFound { .. } => S3ErrorCode::NoSuchKey,
        Error::NotModified { .. } => S3ErrorCode::NotModified,
        Error::AlreadyExists { .. } | Error::Precondition { .. } => S3ErrorCode::PreconditionFailed,
        _ => S3ErrorCode::InternalError,
    };
    let mut answer = S3Error::with_message(code, error.to_string());
    answer.set_source(Box::new(error));
    answer
}
