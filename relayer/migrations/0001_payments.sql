-- A payment is an intent that this relayer has judged good. Its digest is its identity.
--
-- Amounts, nonces and slots are decimal text: they are unsigned 64-bit numbers, and SQL's integers are not.
-- Times of the record (created_at and the like) are unix milliseconds of this machine's clock and decide
-- nothing; expires_at is unix seconds of the chain's.
CREATE TABLE payments (
    digest        TEXT    PRIMARY KEY NOT NULL,
    state         TEXT    NOT NULL CHECK (state IN
        ('received', 'admitted', 'signed', 'sent', 'confirmed', 'rejected', 'failed', 'expired')),
    payer         TEXT    NOT NULL,
    service       TEXT    NOT NULL,
    mint          TEXT    NOT NULL,
    amount        TEXT    NOT NULL,
    nonce_account TEXT    NOT NULL,
    opened_slot   TEXT    NOT NULL,
    lane          INTEGER NOT NULL,
    nonce         TEXT    NOT NULL,
    expires_at    INTEGER NOT NULL,
    -- The version of the protocol in which the payment was asked for.
    x402_version  INTEGER NOT NULL,
    -- The entry of the settle instruction, as it goes on chain: signature and all.
    entry         BLOB    NOT NULL,
    -- The legs, as JSON.
    split         TEXT    NOT NULL,
    -- Why it was rejected, failed or expired.
    reason        TEXT,
    message       TEXT,
    -- Where it landed.
    signature     TEXT,
    slot          INTEGER,
    fee_lamports  INTEGER,
    -- 1 once /settle has answered success. It never goes back.
    answered      INTEGER NOT NULL DEFAULT 0,
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL
) STRICT;

-- Two live payments can never share a nonce: one of them could only burn a fee.
CREATE UNIQUE INDEX payments_live_nonce ON payments (nonce_account, opened_slot, lane, nonce)
    WHERE state IN ('received', 'admitted', 'signed', 'sent');
CREATE INDEX payments_live ON payments (created_at)
    WHERE state IN ('received', 'admitted', 'signed', 'sent');
CREATE INDEX payments_by_nonce_account ON payments (nonce_account, updated_at);

-- Every transaction ever signed for a payment, written before its first byte leaves.
CREATE TABLE attempts (
    signature               TEXT    PRIMARY KEY NOT NULL,
    digest                  TEXT    NOT NULL REFERENCES payments (digest),
    wire                    BLOB    NOT NULL,
    last_valid_block_height INTEGER NOT NULL,
    fee_lamports            INTEGER NOT NULL,
    signed_at               INTEGER NOT NULL,
    sent_at                 INTEGER,
    outcome                 TEXT    NOT NULL DEFAULT 'open'
        CHECK (outcome IN ('open', 'landed', 'failed', 'dead'))
) STRICT;

-- At most one transaction of a payment is alive.
CREATE UNIQUE INDEX attempts_open ON attempts (digest) WHERE outcome = 'open';
CREATE INDEX attempts_by_digest ON attempts (digest);
