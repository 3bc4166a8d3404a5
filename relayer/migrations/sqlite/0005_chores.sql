-- What the relayer does beside settling: dividing what arrived in vaults, closing idle nonce accounts whose rent it paid,
-- opening nonce accounts for payers without SOL. Each is a transaction that is written here before its first byte leaves,
-- and followed to its end. Times are unix milliseconds of the database's clock, which all replicas share.
CREATE TABLE chores (
    signature               TEXT    PRIMARY KEY NOT NULL,
    kind                    TEXT    NOT NULL CHECK (kind IN ('distribute', 'reclaim', 'onboard')),
    wire                    BLOB    NOT NULL,
    last_valid_block_height INTEGER NOT NULL,
    fee_payer               TEXT    NOT NULL,
    -- What it costs in fees.
    lamports                INTEGER NOT NULL,
    -- The replica that follows it.
    replica                 TEXT    NOT NULL,
    state                   TEXT    NOT NULL DEFAULT 'signed'
        CHECK (state IN ('signed', 'landed', 'failed', 'dead')),
    slot                    INTEGER,
    error                   TEXT,
    signed_at               INTEGER NOT NULL,
    ended_at                INTEGER
) STRICT;

CREATE INDEX chores_open ON chores (replica) WHERE state = 'signed';
CREATE INDEX chores_by_time ON chores (kind, signed_at);

-- The services or nonce accounts that a transaction is about.
CREATE TABLE chore_subjects (
    signature TEXT    NOT NULL REFERENCES chores (signature),
    kind      TEXT    NOT NULL,
    subject   TEXT    NOT NULL,
    -- 1 while the transaction is open.
    live      INTEGER NOT NULL DEFAULT 1,
    PRIMARY KEY (signature, subject)
) STRICT;

-- At most one transaction of a kind is open for a subject, on whatever replica.
CREATE UNIQUE INDEX chore_subjects_live ON chore_subjects (kind, subject) WHERE live = 1;

-- What is known of a service or a nonce account from one transaction to the next.
CREATE TABLE chore_targets (
    kind        TEXT    NOT NULL,
    subject     TEXT    NOT NULL,
    -- Since when there has been something to do.
    since       INTEGER,
    -- Transactions that failed since the last one that did not, and until when it is left alone for that.
    failures    INTEGER NOT NULL DEFAULT 0,
    rest_until  INTEGER NOT NULL DEFAULT 0,
    -- The slot of the last transaction: what was read before it says nothing any more.
    landed_slot INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (kind, subject)
) STRICT;

-- A row for each kind, locked while a budget is looked at and used.
CREATE TABLE chore_budgets (
    kind    TEXT    PRIMARY KEY NOT NULL,
    touched INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO chore_budgets (kind) VALUES ('distribute'), ('reclaim'), ('onboard');

-- Openings that were asked for: the transaction as it was built, to be signed only if it comes back unchanged.
CREATE TABLE onboardings (
    id                      TEXT    PRIMARY KEY NOT NULL,
    payer                   TEXT    NOT NULL,
    mint                    TEXT    NOT NULL,
    nonce_account           TEXT    NOT NULL,
    sponsor                 TEXT    NOT NULL,
    -- The bytes with zeros for signatures.
    unsigned                BLOB    NOT NULL,
    last_valid_block_height INTEGER NOT NULL,
    rent_lamports           INTEGER NOT NULL,
    fee_lamports            INTEGER NOT NULL,
    -- Who asked: an IP address (of version 6, its network), and the API key's name.
    client                  TEXT    NOT NULL,
    api_key                 TEXT,
    -- built: nothing is signed. signed: a transaction is written down. landed: the account is open at the sponsor's cost.
    -- failed: the transaction failed, and cost its fee. dead: it can no longer land. closed: its payer has closed the
    -- account since. reclaimed: the relayer has.
    state                   TEXT    NOT NULL DEFAULT 'built' CHECK (state IN
        ('built', 'signed', 'landed', 'failed', 'dead', 'closed', 'reclaimed')),
    signature               TEXT,
    slot                    INTEGER,
    error                   TEXT,
    built_at                INTEGER NOT NULL,
    signed_at               INTEGER
) STRICT;

-- One account a payer and mint, ever; one that the relayer has closed for idleness may be opened again.
CREATE UNIQUE INDEX onboardings_once ON onboardings (payer, mint) WHERE state IN ('signed', 'landed', 'closed');
CREATE INDEX onboardings_built ON onboardings (client, built_at);
CREATE INDEX onboardings_signed ON onboardings (signed_at);
CREATE INDEX onboardings_by_account ON onboardings (nonce_account);
CREATE INDEX onboardings_by_signature ON onboardings (signature);
