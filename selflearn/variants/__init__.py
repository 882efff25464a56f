"""Goal variants: what different people say for one goal, each in their own words."""
