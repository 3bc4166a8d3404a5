-- A payment is an intent, or a transfer that its payer has signed, whose transaction was signed by a fee payer. Its
-- digest is its identity: the intent's, or the hash of the transfer's message. Before that it is in memory alone: nothing
-- has been promised and nothing can land.
--
-- Amounts, nonces and slots of opening are decimal text: they are unsigned 64-bit numbers, and SQL's integers are not.
-- Times of the record (created_at and the like) are unix milliseconds of the relayer's clock and decide nothing;
-- expires_at is unix seconds of the chain's.
CREATE TABLE payments (
    digest        TEXT    PRIMARY KEY NOT NULL,
    state         TEXT    NOT NULL CHECK (state IN
        ('signed', 'sent', 'confirmed', 'finalized', 'failed', 'expired')),
    scheme        TEXT    NOT NULL CHECK (scheme IN ('sluice-split', 'exact')),
    payer         TEXT    NOT NULL,
    -- Whom payTo names.
    service       TEXT    NOT NULL,
    mint          TEXT    NOT NULL,
    amount        TEXT    NOT NULL,
    -- The token account that the money comes from.
    source        TEXT    NOT NULL,
    -- An intent's nonce; a transfer has none of these, nor entry and split.
    nonce_account TEXT,
    opened_slot   TEXT,
    lane          BIGINT,
    nonce         TEXT,
    expires_at    BIGINT NOT NULL,
    -- The version of the protocol in which the payment was asked for.
    x402_version  BIGINT NOT NULL,
    -- The entry of the settle instruction, as it goes on chain: signature and all.
    entry         BYTEA,
    -- The legs of this payment on its own, as JSON.
    split         TEXT,
    -- 1 for a transfer into a service's vault, from where it is distributed.
    to_vault      BIGINT NOT NULL,
    -- Why it failed or expired.
    reason        TEXT,
    message       TEXT,
    -- The transaction that landed it, or in which it was refused.
    signature     TEXT,
    -- 1 once /settle has answered success. It never goes back.
    answered      BIGINT NOT NULL DEFAULT 0,
    created_at    BIGINT NOT NULL,
    updated_at    BIGINT NOT NULL,
    CHECK (scheme = 'exact' OR (nonce_account IS NOT NULL AND opened_slot IS NOT NULL AND lane IS NOT NULL
        AND nonce IS NOT NULL AND entry IS NOT NULL AND split IS NOT NULL))
);

-- Two live payments can never share a nonce: one of them could only burn a fee.
CREATE UNIQUE INDEX payments_live_nonce ON payments (nonce_account, opened_slot, lane, nonce)
    WHERE state IN ('signed', 'sent');
CREATE INDEX payments_live ON payments (created_at) WHERE state IN ('signed', 'sent');
CREATE INDEX payments_by_time ON payments (created_at, digest);
CREATE INDEX payments_unexpired ON payments (expires_at);

-- Every transaction ever signed, written before its first byte leaves.
CREATE TABLE transactions (
    signature               TEXT    PRIMARY KEY NOT NULL,
    wire                    BYTEA    NOT NULL,
    last_valid_block_height BIGINT NOT NULL,
    fee_payer               TEXT    NOT NULL,
    fee_lamports            BIGINT NOT NULL,
    service                 TEXT    NOT NULL,
    payments                BIGINT NOT NULL,
    -- The replica that follows it.
    replica                 TEXT    NOT NULL,
    outcome                 TEXT    NOT NULL DEFAULT 'open'
        CHECK (outcome IN ('open', 'landed', 'failed', 'dead')),
    slot                    BIGINT,
    finalized               BIGINT NOT NULL DEFAULT 0,
    signed_at               BIGINT NOT NULL,
    sent_at                 BIGINT
);

CREATE INDEX transactions_open ON transactions (replica) WHERE outcome = 'open';
CREATE INDEX transactions_unfinal ON transactions (slot) WHERE outcome = 'landed' AND finalized = 0;

-- Which payments a transaction carries, in the order of its entries.
CREATE TABLE attempts (
    digest    TEXT    NOT NULL REFERENCES payments (digest),
    signature TEXT    NOT NULL REFERENCES transactions (signature),
    position  BIGINT NOT NULL,
    -- 1 while the transaction is open.
    live      BIGINT NOT NULL DEFAULT 1,
    PRIMARY KEY (digest, signature)
);

-- At most one transaction of a payment is alive.
CREATE UNIQUE INDEX attempts_live ON attempts (digest) WHERE live = 1;
CREATE INDEX attempts_by_signature ON attempts (signature, position);

-- Relayers that share the ledger. One that has not been heard of in time loses its transactions to another.
CREATE TABLE replicas (
    id          TEXT    PRIMARY KEY NOT NULL,
    alive_until BIGINT NOT NULL
);
