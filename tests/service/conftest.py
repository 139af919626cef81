from tests.cluster import cluster as cluster
