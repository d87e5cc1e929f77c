"""Programs that close a site and open it again, a module for each kind of server in front."""
