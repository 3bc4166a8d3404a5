-- What a proof is made of: why a transaction counts as dead, and a payment as impossible.

-- The slot of the block whose hash the transaction was signed with: it can have landed in no earlier one. Null where
-- an earlier version signed it.
ALTER TABLE transactions ADD COLUMN signed_slot INTEGER;
-- The finalized block height at which no node knew it any more.
ALTER TABLE transactions ADD COLUMN dead_height INTEGER;
-- The chain's clock in a finalized block, unix seconds, when the payment was found impossible.
ALTER TABLE payments ADD COLUMN judged_at INTEGER;
-- What its nonce account said in that block: unused, used or silent.
ALTER TABLE payments ADD COLUMN nonce_witness TEXT;

-- To whom the one success was given: whoever did not hear how the commit ended finds their own name there.
ALTER TABLE payments ADD COLUMN answered_by TEXT;
