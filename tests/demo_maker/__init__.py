"""Make the demo's clips and the bundled vision model: drawing, screenplay, training. The product never imports it."""
