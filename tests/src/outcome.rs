use base64::{Engine as _, engine::general_purpose::STANDARD};
use litesvm::types::{FailedTransactionMetadata, TransactionMetadata};
use sluice_intent::Skip;
use sluice_sdk::accounts::settled_event_discriminator;
use solana_instruction::error::InstructionError;
use solana_transaction_error::TransactionError;

/// What a transaction that landed left behind.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Result codes of a settle, one for each entry.
    pub codes: Vec<u8>,
    /// Compute units of the whole transaction.
    pub units: u64,
    /// Lamports that the fee payer lost.
    pub fee: u64,
    /// Its log.
    pub logs: Vec<String>,
    /// Data of the instructions that its programs called, in order.
    pub calls: Vec<Vec<u8>>,
}

/// The event of a settle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The service.
    pub service: [u8; 32],
    /// Atomic units pulled.
    pub total: u64,
    /// The treasury's leg.
    pub treasury: u64,
    /// The facilitator's leg.
    pub facilitator: u64,
    /// Legs that stayed in the vault, a bit each.
    pub held: u16,
    /// The recipients' legs.
    pub recipients: Vec<u64>,
    /// A byte for each entry.
    pub codes: Vec<u8>,
}

impl From<TransactionMetadata> for Outcome {
    fn from(meta: TransactionMetadata) -> Self {
        Self {
            codes: meta.return_data.data,
            units: meta.compute_units_consumed,
            fee: meta.fee,
            logs: meta.logs,
            calls: meta
                .inner_instructions
                .into_iter()
                .flatten()
                .map(|call| call.instruction.data)
                .collect(),
        }
    }
}

impl Outcome {
    /// The result of each entry: `None` for settled.
    pub fn skips(&self) -> Vec<Option<Skip>> {
        self.codes
            .iter()
            .map(|code| Skip::from_code(*code))
            .collect()
    }

    /// How many transfers each call made: more than one only where the token program takes several at once. Fails
    /// where it called anything else.
    pub fn transfers(&self) -> Vec<usize> {
        let transfers = |data: &Vec<u8>| match (data[0], data.len()) {
            // `TransferChecked`: amount and decimals.
            (12, 10) => 1,
            // Several, each behind its number of accounts and its length.
            (255, len) if len > 13 && len % 12 == 1 => len / 12,
            _ => panic!("no transfer: {data:?}"),
        };
        self.calls.iter().map(transfers).collect()
    }

    /// The settlement event in the log.
    pub fn event(&self) -> Settled {
        let data = self
            .logs
            .iter()
            .filter_map(|line| line.strip_prefix("Program data: "))
            .map(|text| STANDARD.decode(text).unwrap())
            .find(|data| data.starts_with(&settled_event_discriminator()))
            .expect("a settlement event");
        let mut rest = &data[8..];
        let mut take = |n: usize| {
            let (head, tail) = rest.split_at(n);
            rest = tail;
            head.to_vec()
        };
        let number = |bytes: Vec<u8>| u64::from_le_bytes(bytes.try_into().unwrap());
        let service = take(32).try_into().unwrap();
        let (total, treasury, facilitator) = (number(take(8)), number(take(8)), number(take(8)));
        let held = u16::from_le_bytes(take(2).try_into().unwrap());
        let count = u32::from_le_bytes(take(4).try_into().unwrap());
        let recipients = (0..count).map(|_| number(take(8))).collect();
        let count = u32::from_le_bytes(take(4).try_into().unwrap());
        let codes = take(count as usize);
        assert!(rest.is_empty(), "the event has bytes that nobody reads");
        Settled {
            service,
            total,
            treasury,
            facilitator,
            held,
            recipients,
            codes,
        }
    }
}

/// Why a transaction did not land.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The error.
    pub error: TransactionError,
    /// The log up to it.
    pub logs: Vec<String>,
}

impl From<FailedTransactionMetadata> for Failure {
    fn from(failed: FailedTransactionMetadata) -> Self {
        Self {
            error: failed.err,
            logs: failed.meta.logs,
        }
    }
}

impl Failure {
    /// The program's error number, if it is one.
    pub fn custom(&self) -> Option<u32> {
        match self.error {
            TransactionError::InstructionError(_, InstructionError::Custom(code)) => Some(code),
            _ => None,
        }
    }

    /// The skip reason that `strict` turned into an error, if it is one.
    pub fn skip(&self) -> Option<Skip> {
        let code = self.custom()?.checked_sub(6_000)?;
        Skip::from_code(u8::try_from(code).ok()?)
    }
}
