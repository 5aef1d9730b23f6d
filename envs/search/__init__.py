"""The search environment: an index of documents, engines that search it, and questions whose answers can be checked."""
