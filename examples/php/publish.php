<?php
/** A token of 0.x for these topics, for a minute. */
function token(string $key, array $topics): string
{
    $encode = fn (string $text) => rtrim(strtr(base64_encode($text), '+/', '-_'), '=');
    $claims = ['mercure' => ['publish' => $topics], 'exp' => time() + 60];
    $signed = $encode('{"alg":"HS256","typ":"JWT"}').'.'.$encode(json_encode($claims));

    return $signed.'.'.$encode(hash_hmac('sha256', $signed, $key, true));
}

/** The update's id. Each topic is a field of its own: the hub refuses topic[0]=… with a sentence that says so. */
function publish(string $hub, string $key, array $topics, mixed $data, bool $private = false): string
{
    $fields = array_map(fn (string $topic) => 'topic='.rawurlencode($topic), $topics);
    $fields[] = 'data='.rawurlencode(is_string($data) ? $data : json_encode($data));
    if ($private) {
        $fields[] = 'private=on';
    }
    $context = stream_context_create(['http' => [
        'method' => 'POST',
        'header' => ['Authorization: Bearer '.token($key, $topics), 'Content-Type: application/x-www-form-urlencoded'],
        'content' => implode('&', $fields),
        'ignore_errors' => true,
        'timeout' => 10,
    ]]);
    $answer = file_get_contents($hub, false, $context);
    if ($answer === false || !preg_match('/ 200 /', $http_response_header[0])) {
        throw new RuntimeException('not published: '.($answer ?: 'no answer'));
    }

    return $answer;
}
