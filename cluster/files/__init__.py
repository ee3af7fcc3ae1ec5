"""From a URI to a local file: who may read what, transfers, manifests, stored pictures. Begin with `storage`."""
