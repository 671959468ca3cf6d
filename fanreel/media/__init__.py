"""Files and devices: photos, frames, encoder sessions, the store, the join and its proof."""
