-- What the relayer does beside settling: dividing what arrived in vaults, closing idle nonce accounts whose rent it paid,
-- opening nonce accounts for payers without SOL. Each is a transaction that is written here before its first byte leaves,
-- and followed to its end. Times are unix milliseconds of the database's clock, which all replicas share.
CREATE TABLE chores (
    signature               TEXT    PRIMARY KEY NOT NULL,
    kind                    TEXT    NOT NULL CHECK (kind IN ('distribute', 'reclaim', 'onboard')),
    wire                    BYTEA    NOT NULL,
    last_valid_block_height BIGINT NOT NULL,
    fee_payer               TEXT    NOT NULL,
    -- What it costs in fees.
    lamports                BIGINT NOT NULL,
    -- The replica that follows it.
    replica                 TEXT    NOT NULL,
    state                   TEXT    NOT NULL DEFAULT 'signed'
        CHECK (state IN ('signed', 'landed', 'failed', 'dead')),
    slot                    BIGINT,
    error                   TEXT,
    signed_at               BIGINT NOT NULL,
    ended_at                BIGINT
);

CREATE INDEX chores_open ON chores (replica) WHERE state = 'signed';
CREATE INDEX chores_by_time ON chores (kind, signed_at);

-- The services or nonce accounts that a transaction is about.
CREATE TABLE chore_subjects (
    signature TEXT    NOT NULL REFERENCES chores (signature),
    kind      TEXT    NOT NULL,
    subject   TEXT    NOT NULL,
    -- 1 while the transaction is open.
    live      BIGINT NOT NULL DEFAULT 1,
    PRIMARY KEY (signature, subject)
);

-- At most one transaction of a kind is open for a subject, on whatever replica.
CREATE UNIQUE INDEX chore_subjects_live ON chore_subjects (kind, subject) WHERE live = 1;

-- What is known of a service or a nonce account from one transaction to the next.
CREATE TABLE chore_targets (
    kind        TEXT    NOT NULL,
    subject     TEXT    NOT NULL,
    -- Since when there has been something to do.
    since       BIGINT,
    -- Transactions that failed since the last one that did not, and until when it is left alone for that.
    failures    BIGINT NOT NULL DEFAULT 0,
    rest_until  BIGINT NOT NULL DEFAULT 0,
    -- The slot of the last transaction: what was read before it says nothing any more.
    landed_slot BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (kind, subject)
);

-- A row for each kind, locked while a budget is looked at and used.
CREATE TABLE chore_budgets (
    kind    TEXT    PRIMARY KEY NOT NULL,
    touched BIGINT NOT NULL DEFAULT 0
);
INSERT INTO chore_budgets (kind) VALUES ('distribute'), ('reclaim'), ('onboard');

-- Openings that were asked for: the transaction as it was built, to be signed only if it comes back unchanged.
CREATE TABLE onboardings (
    id                      TEXT    PRIMARY KEY NOT NULL,
    payer                   TEXT    NOT NULL,
    mint                    TEXT    NOT NULL,
    nonce_account           TEXT    NOT NULL,
    sponsor                 TEXT    NOT NULL,
    -- The bytes with zeros for signatures.
    unsigned                BYTEA    NOT NULL,
    last_valid_block_height BIGINT NOT NULL,
    rent_lamports           BIGINT NOT NULL,
    fee_lamports            BIGINT NOT NULL,
    -- Who asked: an IP address (of version 6, its network), and the API key's name.
    client                  TEXT    NOT NULL,
    api_key                 TEXT,
    -- built: nothing is signed. signed: a transaction is written down. landed: the account is open at the sponsor's cost.
    -- failed: the transaction failed, and cost its fee. dead: it can no longer land. closed: its payer has closed the
    -- account since. reclaimed: the relayer has.
    state                   TEXT    NOT NULL DEFAULT 'built' CHECK (state IN
        ('built', 'signed', 'landed', 'failed', 'dead', 'closed', 'reclaimed')),
    signature               TEXT,
    slot                    BIGINT,
    error                   TEXT,
    built_at                BIGINT NOT NULL,
    signed_at               BIGINT
);

-- One account a payer and mint, ever; one that the relayer has closed for idleness may be opened again.
CREATE UNIQUE INDEX onboardings_once ON onboardings (payer, mint) WHERE state IN ('signed', 'landed', 'closed');
CREATE INDEX onboardings_built ON onboardings (client, built_at);
CREATE INDEX onboardings_signed ON onboardings (signed_at);
CREATE INDEX onboardings_by_account ON onboardings (nonce_account);
CREATE INDEX onboardings_by_signature ON onboardings (signature);
