-- A dump that was restored into another server brings a number that this one has not reached: no prune here has written it.
UPDATE cache_outbox.state SET pruned_below = pg_snapshot_xmin(pg_current_snapshot()) WHERE pruned_below > pg_snapshot_xmin(pg_current_snapshot());
