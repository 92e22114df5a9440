<?php
use Doctrine\DBAL\Connection;
use Doctrine\DBAL\DriverManager;

// Composer's autoloader; or Debian's, of php-doctrine-dbal.
require is_file(__DIR__.'/vendor/autoload.php') ? __DIR__.'/vendor/autoload.php' : 'Doctrine/DBAL/autoload.php';

/** Within the transaction of whoever calls it: the hub gets the update if and only if that commits. Its id. */
function publish(Connection $connection, string $topic, mixed $data, bool $private = false): string
{
    return $connection->fetchOne('SELECT mercure.publish(?::text, ?, ?)', [$topic, json_encode($data), $private ? 't' : 'f']);
}

/** Save a book and tell of it, together. With the ORM: $entityManager->wrapInTransaction(…), and its getConnection(). */
function change(Connection $connection, int $number, string $title, bool $fail): void
{
    $connection->transactional(function (Connection $connection) use ($number, $title, $fail) {
        $connection->executeStatement(
            'INSERT INTO php_books VALUES (?, ?) ON CONFLICT (number) DO UPDATE SET title = excluded.title',
            [$number, $title],
        );
        publish($connection, "https://example.com/books/$number", ['title' => $title]);
        if ($fail) {
            throw new RuntimeException('this book can\'t be lent');
        }
    });
}

$connection = DriverManager::getConnection(['driver' => 'pdo_pgsql', 'host' => getenv('PGHOST'), 'port' => getenv('PGPORT'),
    'user' => getenv('PGUSER'), 'dbname' => getenv('PGDATABASE')]);
$connection->executeStatement('CREATE TABLE IF NOT EXISTS php_books (number integer PRIMARY KEY, title text NOT NULL)');
change($connection, (int) $argv[1], $argv[2], isset($argv[3]));
