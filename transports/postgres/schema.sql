-- The log in PostgreSQL, format 1: tables, and the functions that hubs and applications call.
-- The schema's name is replaced when it is not mercure.

CREATE SCHEMA mercure;

-- indexed_from: the position from which on `topics` has every entry; NULL: it has none.
CREATE TABLE mercure.format (version integer NOT NULL, indexed_from bigint);
INSERT INTO mercure.format VALUES (1, NULL);

-- position: microseconds since 1970 when the entry came, or one more than the entry before it, whichever is larger.
-- previous: the entry before it when it came, so that a reader knows whether something is gone between two entries.
-- number: 1, 2, 3 …, so that the size of the log is known without counting.
-- key: the publisher's idempotency key. update: JSON, as text because jsonb can't hold U+0000.
CREATE TABLE mercure.updates (
  position bigint PRIMARY KEY,
  previous bigint NOT NULL,
  number bigint NOT NULL,
  id text NOT NULL,
  key text,
  update text NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.2);
-- By their hashes: an index takes no text of more than 2,704 bytes.
CREATE INDEX updates_ids ON mercure.updates (hashtextextended(id, 0), position);
CREATE INDEX updates_keys ON mercure.updates (hashtextextended(key, 0)) WHERE key IS NOT NULL;

-- With index=topics: the entries of each topic. An index takes no text of more than 2,704 bytes.
CREATE TABLE mercure.topics (topic text COLLATE "C" NOT NULL, position bigint NOT NULL)
  WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.2);
CREATE INDEX topics_topics ON mercure.topics ("left"(topic, 500), position);
CREATE INDEX topics_positions ON mercure.topics (position);

-- What transactions have published and no hub has moved to the log yet.
CREATE TABLE mercure.outbox (
  number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  written timestamptz NOT NULL DEFAULT clock_timestamp(),
  id text NOT NULL,
  topics text[] NOT NULL,
  update text NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- Active subscriptions, under the node (one run of one hub) that holds their connections; count -1: declared dead.
CREATE TABLE mercure.nodes (node text PRIMARY KEY, count bigint NOT NULL);
CREATE TABLE mercure.subscriptions (node text NOT NULL, id text NOT NULL, document bytea NOT NULL);
CREATE UNIQUE INDEX subscriptions_ids ON mercure.subscriptions (node, md5(id));

-- One row that a health check writes.
CREATE TABLE mercure.health (checked timestamptz NOT NULL);
INSERT INTO mercure.health VALUES (clock_timestamp());

-- Whoever adds to the log holds this lock until the commit. Without it the commits of two transactions may come in
-- another order than their positions, and a reader would pass by the one that comes late.
CREATE FUNCTION mercure.lock_log() RETURNS void LANGUAGE sql AS $$
  SELECT pg_advisory_xact_lock(hashtextextended('mercure.updates', 0))
$$;

-- Add a group of updates and trim what is too much. keys: NULL when none has one; no key stands twice in a group.
-- topics: of all of them; owners: for each topic, the place of its update in the group.
-- size: entries that stay (0: all), ttl: microseconds (0: for ever). oldest: a position before which nothing is left, as
-- far as the caller knows: an index scan that begins at 0 has to pass all that was deleted and is not vacuumed yet.
-- Those whose key is known are not added: known are their places in the group, with the entries that have the keys.
-- The others stand at base + 1, base + 2 … in their order.
CREATE FUNCTION mercure.append(
  texts text[], ids text[], keys text[], topics text[], owners integer[], size bigint, ttl bigint, INOUT oldest bigint,
  OUT base bigint, OUT known integer[], OUT known_positions bigint[], OUT known_texts text[]
) LANGUAGE plpgsql AS $$
DECLARE
  newest bigint;
  count bigint; -- the newest one's number
  added bigint;
  first bigint;
  excess bigint;
  room bigint;
  bound bigint; -- the first position that stays
  indexed boolean := (SELECT format.indexed_from IS NOT NULL FROM mercure.format);
BEGIN
  PERFORM mercure.lock_log();
  SELECT position, number INTO newest, count FROM mercure.updates ORDER BY position DESC LIMIT 1;
  newest := coalesce(newest, 0);
  count := coalesce(count, 0);
  base := greatest(newest, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint);

  IF keys IS NOT NULL THEN
    SELECT array_agg(given.n), array_agg(entry.position), array_agg(entry.update)
      INTO known, known_positions, known_texts
      FROM unnest(keys) WITH ORDINALITY AS given (key, n)
      CROSS JOIN LATERAL (
        SELECT updates.position, updates.update FROM mercure.updates
          WHERE hashtextextended(updates.key, 0) = hashtextextended(given.key, 0) AND updates.key = given.key
          ORDER BY updates.position DESC LIMIT 1
      ) AS entry
      WHERE given.key IS NOT NULL;
  END IF;

  IF known IS NULL THEN
    INSERT INTO mercure.updates (position, previous, number, id, key, update)
      SELECT base + n, CASE n WHEN 1 THEN newest ELSE base + n - 1 END, count + n, given.id, given.key, given.text
      FROM unnest(texts, ids, keys) WITH ORDINALITY AS given (text, id, key, n);
  ELSE
    INSERT INTO mercure.updates (position, previous, number, id, key, update)
      SELECT base + n, CASE n WHEN 1 THEN newest ELSE base + n - 1 END, count + n, fresh.id, fresh.key, fresh.text
      FROM (
        SELECT row_number() OVER (ORDER BY given.n) AS n, given.id, given.key, given.text
        FROM unnest(texts, ids, keys) WITH ORDINALITY AS given (text, id, key, n)
        WHERE given.n <> ALL (known)
      ) AS fresh;
  END IF;
  GET DIAGNOSTICS added = ROW_COUNT;
  IF added = 0 THEN
    RETURN;
  END IF;
  IF indexed THEN
    INSERT INTO mercure.topics (topic, position)
      SELECT given.topic, base + given.owner - (SELECT count(*) FROM unnest(known) AS before WHERE before < given.owner)
      FROM unnest(topics, owners) AS given (topic, owner)
      WHERE known IS NULL OR given.owner <> ALL (known);
  END IF;
  PERFORM pg_notify('mercure.updates', '');

  SELECT position, number INTO first, excess FROM mercure.updates
    WHERE position >= oldest ORDER BY position LIMIT 1;
  oldest := first;
  excess := count + added - excess + 1 - size;
  room := 2 * added + 1000;
  IF size > 0 AND excess > size / 1000 THEN
    SELECT position INTO bound FROM mercure.updates
      WHERE position >= first ORDER BY position OFFSET least(excess, room) LIMIT 1;
  END IF;
  IF ttl > 0 AND first < base - ttl THEN
    SELECT position INTO newest FROM mercure.updates
      WHERE position >= first ORDER BY position OFFSET room LIMIT 1;
    bound := greatest(bound, least(base - ttl, coalesce(newest, base + added)));
  END IF;
  IF bound IS NOT NULL THEN
    oldest := least(bound, base + added);
    DELETE FROM mercure.updates WHERE position >= first AND position < oldest;
    IF indexed THEN
      DELETE FROM mercure.topics WHERE position >= first AND position < oldest;
    END IF;
  END IF;
END
$$;

-- Where the group's updates stand after a position, for a hub whose answer was lost. NULL: they are not there, and
-- will not come, as far as the server has received them: what it is doing holds the lock.
CREATE FUNCTION mercure.find(texts text[], ids text[], after bigint) RETURNS bigint[] LANGUAGE plpgsql AS $$
BEGIN
  PERFORM mercure.lock_log();
  RETURN (
    SELECT array_agg((
      SELECT min(updates.position) FROM mercure.updates
        WHERE hashtextextended(updates.id, 0) = hashtextextended(given.id, 0) AND updates.id = given.id
          AND updates.update = given.text AND updates.position > after
    ) ORDER BY given.n)
    FROM unnest(texts, ids) WITH ORDINALITY AS given (text, id, n)
  );
END
$$;

-- Move what transactions have published to the log, at most 256 at once; how many that were.
CREATE FUNCTION mercure.move(size bigint, ttl bigint, INOUT oldest bigint, OUT moved integer) LANGUAGE plpgsql AS $$
DECLARE
  texts text[];
  ids text[];
  topics text[];
  owners integer[];
BEGIN
  moved := 0;
  IF NOT EXISTS (SELECT FROM mercure.outbox) THEN
    RETURN;
  END IF;
  PERFORM mercure.lock_log();
  WITH taken AS (
    DELETE FROM mercure.outbox WHERE number IN (SELECT number FROM mercure.outbox ORDER BY number LIMIT 256)
    RETURNING outbox.number, outbox.id, outbox.topics, outbox.update
  ), numbered AS (
    SELECT row_number() OVER (ORDER BY taken.number)::integer AS n, taken.* FROM taken
  ), named AS (
    SELECT numbered.n, each.topic FROM numbered, unnest(numbered.topics) AS each (topic)
  )
  SELECT (SELECT array_agg(numbered.update ORDER BY n) FROM numbered),
      (SELECT array_agg(numbered.id ORDER BY n) FROM numbered), (SELECT count(*) FROM numbered),
      (SELECT array_agg(named.topic) FROM named), (SELECT array_agg(named.n) FROM named)
    INTO texts, ids, moved, topics, owners;
  IF moved > 0 THEN
    SELECT appended.oldest INTO oldest FROM mercure.append(texts, ids, NULL, topics, owners, size, ttl, oldest)
      AS appended;
  END IF;
END
$$;

-- Begin an index of topics: it has what is added from now on, and `indexed_from` says since when.
CREATE FUNCTION mercure.begin_index() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM mercure.lock_log();
  UPDATE mercure.format SET indexed_from = coalesce((SELECT max(position) FROM mercure.updates), 0) + 1
    WHERE indexed_from IS NULL;
END
$$;

-- The entries of some topics after a position, at most so many, and so many bytes and one; up to where they are all of
-- them; and the entry before the first one after that position, by which a reader knows that nothing is gone. All as of
-- one moment.
CREATE FUNCTION mercure.page_of(
  wanted text[], after bigint, most integer, bytes bigint,
  OUT positions bigint[], OUT texts text[], OUT reached bigint, OUT previous bigint
) LANGUAGE plpgsql STABLE AS $$
DECLARE
  count integer;
BEGIN
  SELECT max(position) INTO reached FROM mercure.updates;
  SELECT updates.previous INTO previous FROM mercure.updates WHERE position > after ORDER BY position LIMIT 1;
  WITH found AS (
    SELECT DISTINCT entry.position FROM unnest(wanted) AS given (topic) CROSS JOIN LATERAL (
      SELECT topics.position FROM mercure.topics
        WHERE "left"(topics.topic, 500) = "left"(given.topic, 500) AND topics.topic = given.topic
          AND topics.position > after
        ORDER BY topics.position LIMIT most
    ) AS entry ORDER BY entry.position LIMIT most
  ), sized AS (
    SELECT updates.position, updates.update,
        sum(octet_length(updates.update)) OVER (ORDER BY updates.position) - octet_length(updates.update) AS before
      FROM found JOIN mercure.updates ON updates.position = found.position
  )
  SELECT array_agg(sized.position ORDER BY sized.position) FILTER (WHERE before < bytes),
      array_agg(sized.update ORDER BY sized.position) FILTER (WHERE before < bytes), count(*)
    INTO positions, texts, count FROM sized;
  IF count = most OR cardinality(positions) < count THEN
    reached := positions[cardinality(positions)];
  END IF;
END
$$;

-- The newest entries of some topics, at most so many of each, the newest first; topics, positions and texts in rows.
CREATE FUNCTION mercure.newest_of(
  wanted text[], depth integer, OUT topics text[], OUT positions bigint[], OUT texts text[]
) LANGUAGE plpgsql STABLE AS $$
BEGIN
  SELECT array_agg(given.topic ORDER BY n, updates.position DESC),
      array_agg(updates.position ORDER BY n, updates.position DESC),
      array_agg(updates.update ORDER BY n, updates.position DESC)
    INTO topics, positions, texts
    FROM unnest(wanted) WITH ORDINALITY AS given (topic, n) CROSS JOIN LATERAL (
      SELECT topics.position FROM mercure.topics
        WHERE "left"(topics.topic, 500) = "left"(given.topic, 500) AND topics.topic = given.topic
        ORDER BY topics.position DESC LIMIT depth
    ) AS entry JOIN mercure.updates ON updates.position = entry.position;
END
$$;

-- Topics of less than 500 characters that begin so, each once, without reading all entries.
CREATE FUNCTION mercure.topics_from(beginning text, most integer) RETURNS SETOF text LANGUAGE sql STABLE AS $$
  WITH RECURSIVE found (topic) AS (
    (SELECT "left"(topics.topic, 500) FROM mercure.topics
      WHERE "left"(topics.topic, 500) >= "left"(beginning, 500) COLLATE "C" ORDER BY "left"(topics.topic, 500) LIMIT 1)
    UNION ALL
    SELECT (SELECT "left"(topics.topic, 500) FROM mercure.topics
      WHERE "left"(topics.topic, 500) > found.topic ORDER BY "left"(topics.topic, 500) LIMIT 1)
    FROM found WHERE starts_with(found.topic, "left"(beginning, 500))
  )
  SELECT found.topic FROM found
    WHERE starts_with(found.topic, "left"(beginning, 500)) AND length(found.topic) < 500 LIMIT most
$$;

-- Writes as an append does, behind those that are under way.
CREATE FUNCTION mercure.check() RETURNS timestamptz LANGUAGE plpgsql AS $$
DECLARE
  written timestamptz;
BEGIN
  PERFORM mercure.lock_log();
  UPDATE mercure.health SET checked = clock_timestamp() RETURNING checked INTO written;
  RETURN written;
END
$$;

-- For applications: publish within the transaction that calls it. The update goes out if and only if that commits.
-- Returns the update's id. Takes no lock: a hub moves it to the log.
-- Whoever may execute this may publish to every topic: GRANT it to those alone.
CREATE FUNCTION mercure.publish(
  topics text[], data text DEFAULT '', private boolean DEFAULT false,
  id text DEFAULT NULL, type text DEFAULT NULL, retry integer DEFAULT NULL
) RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  topic text;
BEGIN
  id := coalesce(nullif(id, ''), 'urn:uuid:' || gen_random_uuid());
  type := nullif(type, '');
  IF coalesce(cardinality(topics), 0) NOT BETWEEN 1 AND 1000 THEN
    RAISE EXCEPTION 'an update has 1 to 1000 topics' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  FOREACH topic IN ARRAY topics || id || coalesce(type, 'message') LOOP
    IF topic IS NULL OR topic = '' OR length(topic) > 4096 OR topic ~ '[[:cntrl:]\u2028\u2029]' THEN
      RAISE EXCEPTION 'topics, id and type have 1 to 4096 characters, and no control character'
        USING ERRCODE = 'invalid_parameter_value';
    END IF;
  END LOOP;
  IF '*' = ANY (topics) OR EXISTS (SELECT FROM unnest(topics) AS each WHERE each ~* '(/|%2f)(\.|%2e)well-known(/|%2f)mercure') THEN
    RAISE EXCEPTION 'the topic * and those under /.well-known/mercure are reserved'
      USING ERRCODE = 'invalid_parameter_value';
  END IF;
  IF id = 'earliest' OR id LIKE '#%' OR type = 'mercure' OR retry < 0 THEN
    RAISE EXCEPTION 'an id is not "earliest" and does not begin with #, the type mercure is reserved, retry is not negative'
      USING ERRCODE = 'invalid_parameter_value';
  END IF;
  INSERT INTO mercure.outbox (id, topics, update) VALUES (id, topics, json_strip_nulls(json_build_object(
    'id', id, 'topics', topics, 'data', coalesce(data, ''), 'private', coalesce(private, false),
    'type', type, 'retry', retry))::text);
  RETURN id;
END
$$;

CREATE FUNCTION mercure.publish(
  topic text, data text DEFAULT '', private boolean DEFAULT false,
  id text DEFAULT NULL, type text DEFAULT NULL, retry integer DEFAULT NULL
) RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT mercure.publish(ARRAY[topic], data, private, id, type, retry)
$$;

-- Nobody gets in by default. A role that publishes from its transactions needs:
--   GRANT USAGE ON SCHEMA mercure TO app;
--   GRANT EXECUTE ON FUNCTION mercure.publish(text, text, boolean, text, text, integer),
--     mercure.publish(text[], text, boolean, text, text, integer) TO app;
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA mercure FROM PUBLIC;
