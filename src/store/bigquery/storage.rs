//! The Storage Read API: a table's rows as Arrow record batches, over a channel of our own.

use std::time::Duration;

use arrow_ipc::reader::StreamDecoder;
use bytes::Bytes;
use gcp_bigquery_client::google::cloud::bigquery::storage::v1 as api;
use tokio::sync::mpsc;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status};

use super::arrow::Cells;
use super::error::{Failure, speaks_of_policies};
use super::layout::Layout;
use super::rest::Rest;

/// Streams that are read side by side.
const STREAMS: i32 = 4;
/// Batches of rows under way.
const BATCHES_AHEAD: usize = 4;
/// The longest message: the service sends at most half of this.
const MESSAGE_BYTES: usize = 256 << 20;

type Client = api::big_query_read_client::BigQueryReadClient<Channel>;

/// A channel to the API; connected when it is first needed.
#[derive(Clone)]
pub(super) struct Storage {
    client: Client,
    rest: Rest,
}

/// Rows on their way.
pub(super) struct Stream {
    receive: mpsc::Receiver<Result<Vec<Bytes>, Failure>>,
}

impl Stream {
    /// The next rows; none after the last.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Bytes>>, Failure> {
        self.receive.recv().await.transpose()
    }
}

impl Storage {
    /// Takes note of where the API is.
    ///
    /// # Errors
    /// When the address cannot be understood.
    pub(super) fn new(url: &str, rest: Rest) -> Result<Self, Failure> {
        let senseless = |_| Failure::senseless("its gRPC address cannot be understood");
        let mut endpoint = Endpoint::from_shared(url.to_owned())
            .map_err(senseless)?
            .connect_timeout(Duration::from_secs(10))
            .http2_keep_alive_interval(Duration::from_secs(30))
            .keep_alive_while_idle(false);
        if url.starts_with("https://") {
            endpoint = endpoint.tls_config(ClientTlsConfig::new().with_native_roots()).map_err(senseless)?;
        }
        let client = Client::new(endpoint.connect_lazy()).max_decoding_message_size(MESSAGE_BYTES);
        Ok(Self { client, rest })
    }

    /// Begins to read a table as of a moment, in microseconds since 1970.
    pub(super) async fn open(&self, layout: &Layout, moment: i64) -> Result<Stream, Failure> {
        let names = &layout.names;
        let table = format!("projects/{}/datasets/{}/tables/{}", names.project, names.dataset, names.table);
        #[allow(clippy::default_trait_access)] // Its type has no name here.
        let mut modifiers = api::read_session::TableModifiers { snapshot_time: Some(Default::default()) };
        if let Some(time) = &mut modifiers.snapshot_time {
            time.seconds = moment.div_euclid(1_000_000);
            time.nanos = i32::try_from(moment.rem_euclid(1_000_000) * 1000).unwrap_or(0);
        }
        let mut heads: Vec<String> = Vec::new();
        for head in layout.key.iter().chain(&layout.slots).filter_map(|slot| slot.path.first()) {
            if !heads.contains(head) {
                heads.push(head.clone());
            }
        }
        let session = api::ReadSession {
            table: table.clone(),
            data_format: api::DataFormat::Arrow.into(),
            table_modifiers: Some(modifiers),
            read_options: Some(api::read_session::TableReadOptions {
                selected_fields: heads,
                ..Default::default()
            }),
            ..Default::default()
        };
        let request = api::CreateReadSessionRequest {
            parent: format!("projects/{}", self.rest.project),
            read_session: Some(session),
            max_stream_count: STREAMS,
            ..Default::default()
        };
        let mut waits = self.rest.waits();
        let session = loop {
            let request = self.request(request.clone(), &format!("read_session.table={table}")).await?;
            match self.client.clone().create_read_session(request).await {
                Ok(answer) => break answer.into_inner(),
                Err(status) if may_pass(&status) && status.code() != Code::Unavailable => {
                    match waits.next() {
                        Some(wait) => tokio::time::sleep(wait).await,
                        None => return Err(failure(&status)),
                    }
                }
                Err(status) => return Err(failure(&status)),
            }
        };
        let Some(api::read_session::Schema::ArrowSchema(schema)) = session.schema else {
            return Err(Failure::senseless("a read session without an Arrow schema"));
        };
        let (send, receive) = mpsc::channel(BATCHES_AHEAD);
        for stream in session.streams {
            let reader = Reader {
                storage: self.clone(),
                stream: stream.name,
                schema: schema.serialized_schema.clone().into(),
                layout: layout.clone(),
                send: send.clone(),
            };
            tokio::spawn(reader.run());
        }
        Ok(Stream { receive })
    }

    async fn request<M>(&self, message: M, routing: &str) -> Result<Request<M>, Failure> {
        let mut request = Request::new(message);
        let token = self.rest.tokens.token().await?;
        let senseless = |_| Failure::senseless("a token that no header can hold");
        let bearer = format!("Bearer {token}").parse().map_err(senseless)?;
        request.metadata_mut().insert("authorization", bearer);
        let routing = routing.replace('/', "%2F").parse().map_err(senseless)?;
        request.metadata_mut().insert("x-goog-request-params", routing);
        Ok(request)
    }
}

/// Reads one stream of a session.
struct Reader {
    storage: Storage,
    stream: String,
    schema: Bytes,
    layout: Layout,
    send: mpsc::Sender<Result<Vec<Bytes>, Failure>>,
}

impl Reader {
    async fn run(self) {
        if let Err(failure) = self.read().await {
            // Nobody listens any more: nothing to tell.
            let _ = self.send.send(Err(failure)).await;
        }
    }

    /// Reads to the end. A connection that breaks is made again, and reading goes on behind the last row that came.
    async fn read(&self) -> Result<(), Failure> {
        let mut offset = 0_i64;
        let mut waits = self.storage.rest.waits();
        loop {
            let before = offset;
            match self.read_from(&mut offset).await {
                Ok(()) => return Ok(()),
                Err(Broken::Status(status)) if may_pass(&status) => {
                    if offset > before {
                        waits = self.storage.rest.waits();
                    }
                    match waits.next() {
                        Some(wait) => tokio::time::sleep(wait).await,
                        None => return Err(failure(&status)),
                    }
                }
                Err(Broken::Status(status)) => return Err(failure(&status)),
                Err(Broken::Failure(failure)) => return Err(failure),
            }
        }
    }

    async fn read_from(&self, offset: &mut i64) -> Result<(), Broken> {
        let message = api::ReadRowsRequest { read_stream: self.stream.clone(), offset: *offset };
        let request = self.storage.request(message, &format!("read_stream={}", self.stream)).await?;
        let mut answers = self.storage.client.clone().read_rows(request).await?.into_inner();
        let mut decoder = StreamDecoder::new();
        self.decode(&mut decoder, self.schema.clone())?;
        while let Some(answer) = answers.message().await? {
            let Some(api::read_rows_response::Rows::ArrowRecordBatch(batch)) = answer.rows else { continue };
            let rows = self.decode(&mut decoder, batch.serialized_record_batch.into())?;
            if rows.is_empty() {
                continue;
            }
            let count = i64::try_from(rows.len()).unwrap_or(i64::MAX);
            if answer.row_count != count {
                return Err(Failure::senseless("a batch of rows that is not as long as it says").into());
            }
            *offset += count;
            if self.send.send(Ok(rows)).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn decode(&self, decoder: &mut StreamDecoder, bytes: Bytes) -> Result<Vec<Bytes>, Failure> {
        let senseless = |_| Failure::senseless("Arrow data that cannot be read");
        let mut buffer = arrow_buffer::Buffer::from(bytes);
        let mut rows = Vec::new();
        while !buffer.is_empty() {
            if let Some(batch) = decoder.decode(&mut buffer).map_err(senseless)? {
                let cells = Cells::of(&self.layout, &batch)?;
                rows.reserve(batch.num_rows());
                for at in 0..batch.num_rows() {
                    rows.push(cells.row(at));
                }
            }
        }
        Ok(rows)
    }
}

enum Broken {
    Status(Status),
    Failure(Failure),
}

impl From<Status> for Broken {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

impl From<Failure> for Broken {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

fn may_pass(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable
            | Code::Internal
            | Code::Aborted
            | Code::ResourceExhausted
            | Code::DeadlineExceeded
            | Code::Unknown
    )
}

/// A status as a failure of a call. Its message may hold values.
fn failure(told: &Status) -> Failure {
    let (status, reason) = match told.code() {
        Code::NotFound => (Some(404), "notFound"),
        Code::PermissionDenied | Code::Unauthenticated => (Some(403), "accessDenied"),
        Code::ResourceExhausted => (Some(429), "rateLimitExceeded"),
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => (Some(400), "invalid"),
        Code::Unimplemented => (Some(501), "unimplemented"),
        _ => (Some(503), "backendError"),
    };
    let hidden = speaks_of_policies(told.message());
    Failure { status, reason: reason.to_owned(), sent: true, hidden, ..Failure::default() }
}
