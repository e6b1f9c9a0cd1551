"""From a config to a record: profiles, runs, sweeps, campaigns, and what records say."""
