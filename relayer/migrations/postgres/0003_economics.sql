-- The facilitator's share of a payment, in atomic units.
ALTER TABLE payments ADD COLUMN share TEXT NOT NULL DEFAULT '0';
-- What that was worth when the payment was taken on, in lamports; NULL where a price was not known.
ALTER TABLE payments ADD COLUMN worth BIGINT;
-- What the day's subsidy gave for it, in lamports.
ALTER TABLE payments ADD COLUMN subsidy BIGINT NOT NULL DEFAULT 0;

-- What transactions cost lately is asked for at a start.
CREATE INDEX transactions_by_time ON transactions (signed_at);

-- Lamports of subsidy used a UTC day (days since 1970 by the chain's clock).
CREATE TABLE subsidies (
    day  BIGINT PRIMARY KEY NOT NULL,
    used BIGINT NOT NULL
);

-- What landed and is not in the totals yet: written in the commit that lands it, without waiting for anybody who counts
-- the same service, and added up now and then.
--
-- Sums of atomic units and of worth may pass 63 bits: they are kept in two parts, hi times 10^9 and lo.
CREATE TABLE landings (
    id           BIGSERIAL PRIMARY KEY,
    -- Unix milliseconds of the relayer's clock.
    landed_at    BIGINT NOT NULL,
    service      TEXT    NOT NULL,
    mint         TEXT    NOT NULL,
    -- 1 for a transaction that is counted here for the first time.
    transactions BIGINT NOT NULL,
    -- 1 if it failed as a whole.
    failed       BIGINT NOT NULL,
    -- Payments that it carried, that it made, and that it refused.
    carried      BIGINT NOT NULL,
    paid         BIGINT NOT NULL,
    refused      BIGINT NOT NULL,
    -- Lamports.
    cost         BIGINT NOT NULL,
    subsidy      BIGINT NOT NULL,
    -- Of those paid, how many have no worth.
    unpriced     BIGINT NOT NULL,
    -- Atomic units that were paid, and the facilitator's share of them; and what that was worth in lamports.
    volume_hi    BIGINT NOT NULL,
    volume_lo    BIGINT NOT NULL,
    earned_hi    BIGINT NOT NULL,
    earned_lo    BIGINT NOT NULL,
    worth_hi     BIGINT NOT NULL,
    worth_lo     BIGINT NOT NULL
);

-- The same added up, by hour (span 3600), by day (86400) and for ever (0).
CREATE TABLE totals (
    span         BIGINT NOT NULL,
    -- Unix seconds.
    began        BIGINT NOT NULL,
    service      TEXT    NOT NULL,
    mint         TEXT    NOT NULL,
    transactions BIGINT NOT NULL,
    failed       BIGINT NOT NULL,
    carried      BIGINT NOT NULL,
    paid         BIGINT NOT NULL,
    refused      BIGINT NOT NULL,
    cost         BIGINT NOT NULL,
    subsidy      BIGINT NOT NULL,
    unpriced     BIGINT NOT NULL,
    volume_hi    BIGINT NOT NULL,
    volume_lo    BIGINT NOT NULL,
    earned_hi    BIGINT NOT NULL,
    earned_lo    BIGINT NOT NULL,
    worth_hi     BIGINT NOT NULL,
    worth_lo     BIGINT NOT NULL,
    PRIMARY KEY (span, began, service, mint)
);

-- How many transactions carried how many payments.
CREATE TABLE batch_sizes (
    span         BIGINT NOT NULL,
    began        BIGINT NOT NULL,
    service      TEXT    NOT NULL,
    mint         TEXT    NOT NULL,
    carried      BIGINT NOT NULL,
    transactions BIGINT NOT NULL,
    PRIMARY KEY (span, began, service, mint, carried)
);

-- The ids by which payers name their payments, each bound to the first payload that was taken on with it. The payment
-- itself holds the answer.
CREATE TABLE identifiers (
    service       TEXT    NOT NULL,
    -- Whose it is: an intent's nonce account, or who signed a transfer.
    owner         TEXT    NOT NULL,
    id            TEXT    NOT NULL,
    -- Hex of the hash of the payload.
    fingerprint   TEXT    NOT NULL,
    digest        TEXT    NOT NULL,
    -- Unix seconds of the chain's clock: the intent's.
    expires_at    BIGINT NOT NULL,
    PRIMARY KEY (service, owner, id)
);

CREATE INDEX identifiers_by_expiry ON identifiers (expires_at);
