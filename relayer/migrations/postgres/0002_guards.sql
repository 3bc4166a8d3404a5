-- The name of the API key that asked for a payment; NULL where nobody needs one.
ALTER TABLE payments ADD COLUMN api_key TEXT;

-- What failed on chain lately: failure budgets are counted from it after a start, and for all who share the ledger.
CREATE INDEX payments_failed ON payments (updated_at) WHERE state = 'failed';
