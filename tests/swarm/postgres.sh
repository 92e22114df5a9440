set -e
bin=$(echo /usr/lib/postgresql/*/bin)
mkdir -p "$PGDATA"
chown postgres "$PGDATA"
chmod 700 "$PGDATA"
as_postgres="setpriv --reuid=postgres --regid=postgres --clear-groups"
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  $as_postgres "$bin/initdb" -D "$PGDATA" -U postgres -A trust -E UTF8 --locale=C.UTF-8
  echo "host all all all trust" >>"$PGDATA/pg_hba.conf"
fi
exec $as_postgres "$bin/postgres" -D "$PGDATA" -c "listen_addresses=*" -c unix_socket_directories=/tmp
